//! How it is drawn: on white, so that it can be read on any page.

use std::ops::Range;
use std::path::Path;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::bench::Fallible;

const SIZE: (u32, u32) = (800, 440);

/// A line, with a mark at each point.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) color: RGBColor,
    /// The second of a pair is.
    pub(super) dashed: bool,
    pub(super) points: Vec<(f64, Option<f64>)>,
}

pub(super) struct Plot<'a> {
    /// Its file, without the ending, and its title.
    pub(super) about: (&'a str, &'a str),
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Tenfold steps, for what differs so much.
    pub(super) tenfold: bool,
    /// Where the axis is marked; each line has points there.
    pub(super) at: Vec<f64>,
    pub(super) lines: Vec<Line>,
}

impl Plot<'_> {
    pub(super) fn draw(&self, folder: &Path) -> Fallible<()> {
        let file = folder.join(format!("{}.svg", self.about.0));
        let area = SVGBackend::new(&file, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let right = self.at.iter().copied().fold(0.0, f64::max) * 1.05;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.about.1, ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(Axis { range: 0.0..right, marks: self.at.clone() }, self.up())?;
        let label =
            |y: &f64| if self.tenfold { format!("{}", rounded(10f64.powf(*y))) } else { format!("{}", rounded(*y)) };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&label)
            .label_style(("sans-serif", 16))
            .draw()?;
        for Line { name, color, dashed, points } in &self.lines {
            let points: Vec<_> = points.iter().filter_map(|(x, y)| Some((*x, self.scaled((*y)?)))).collect();
            if points.is_empty() {
                continue; // It was not measured.
            }
            let (style, dashed, color) = (color.stroke_width(2), *dashed, *color);
            let marks = points.clone().into_iter().map(move |at| Circle::new(at, 3, color.filled()));
            let drawn = if dashed {
                chart.draw_series(DashedLineSeries::new(points, 6, 4, style))?
            } else {
                chart.draw_series(LineSeries::new(points, style))?
            };
            drawn.label(*name).legend(move |(x, y)| legend(x, y, style, dashed));
            chart.draw_series(marks)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK)
            .label_font(("sans-serif", 16))
            .draw()?;
        Ok(area.present()?)
    }

    fn scaled(&self, y: f64) -> f64 {
        if self.tenfold { y.max(0.01).log10() } else { y }
    }

    /// The axis upwards.
    fn up(&self) -> Axis {
        let all = self.lines.iter().flat_map(|line| &line.points).filter_map(|(_, y)| *y);
        if self.tenfold {
            let all: Vec<_> = all.map(|y| self.scaled(y)).collect();
            let least = all.iter().copied().fold(f64::MAX, f64::min).min(0.0).floor();
            // Room for the names of the lines.
            let most = all.iter().copied().fold(0.0, f64::max).ceil() + 1.0;
            let tens = std::iter::successors(Some(least), |y| Some(y + 1.0)).take_while(|y| *y <= most);
            let marks = tens.flat_map(|ten| [ten, ten + 2f64.log10(), ten + 5f64.log10()]).filter(|y| *y <= most);
            return Axis { range: least..most, marks: marks.collect() };
        }
        let most = all.fold(1.0, f64::max) * 1.4;
        let tenth = 10f64.powf(most.log10().floor() - 1.0);
        let step = [2.0, 5.0, 10.0, 20.0].map(|n| n * tenth).into_iter().find(|step| most / step <= 8.0);
        let step = step.unwrap_or(most);
        let marks = std::iter::successors(Some(0.0), |y| Some(y + step)).take_while(|y| *y <= most);
        Axis { range: 0.0..most, marks: marks.collect() }
    }
}

/// Two digits are enough beside an axis.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// A piece of a line; a shorter one if it is dashed.
fn legend(x: i32, y: i32, style: ShapeStyle, dashed: bool) -> PathElement<(i32, i32)> {
    PathElement::new([(x, y), (x + if dashed { 7 } else { 18 }, y)], style)
}

/// An axis that is marked where it is said.
struct Axis {
    range: Range<f64>,
    marks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range.clone()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}
