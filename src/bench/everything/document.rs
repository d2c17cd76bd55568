//! The document of a run: its generated part is written, and what people wrote around it stays.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Findings, plots, targets};
use crate::bench::Fallible;

const BEGIN: &str = "<!-- generated: begin -->\n";
const END: &str = "<!-- generated: end -->\n";

/// A document with a generated part.
#[derive(Debug)]
pub struct Document {
    file: PathBuf,
}

impl Document {
    /// A document that is there, and has a place for what is generated.
    ///
    /// # Errors
    /// If it isn't there or has no such place: said before a quarter of an hour is spent.
    pub fn open(file: &Path) -> Fallible<Self> {
        let document = Self { file: file.to_owned() };
        document.around()?;
        Ok(document)
    }

    /// What stands before the generated part, and behind it.
    fn around(&self) -> Fallible<(String, String)> {
        let name = self.file.display();
        let text = fs::read_to_string(&self.file).map_err(|error| format!("{name}: {error}"))?;
        let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let (before, behind) =
            parts.ok_or_else(|| format!("{name} lacks the lines {} and {}", BEGIN.trim(), END.trim()))?;
        Ok((before.to_owned(), behind.to_owned()))
    }

    /// Writes what was found, and its plots into the folder that is called as the document is.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn write(&self, found: &Findings) -> Fallible<()> {
        let folder = self.file.with_extension("");
        fs::create_dir_all(&folder)?;
        plots::draw(found, &folder)?;
        let folder = folder.file_name().ok_or("the document has no name")?.display().to_string();
        // It may have been edited in the meantime.
        let (before, behind) = self.around()?;
        Ok(fs::write(&self.file, format!("{before}{BEGIN}{}{END}{behind}", generated(found, &folder)?))?)
    }
}

fn generated(found: &Findings, folder: &str) -> Fallible<String> {
    let mut text = format!("\n## Where\n\n{}\n", found.machine.list());
    if !found.plan.judged {
        text.push_str("This was a trial with tiny sizes: no figure means anything.\n\n");
    }
    write!(text, "## Targets\n\n{}\n## Figures\n\n", targets::table(found))?;
    for (name, title) in plots::TITLES {
        write!(text, "![{title}]({folder}/{name}.svg)\n\n")?;
    }
    for report in found.reports() {
        write!(text, "### {}\n\n{}\n", report.title, report.body())?;
    }
    Ok(text)
}
