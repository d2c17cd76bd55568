//! A name server that knows what a test tells it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

/// It stops when dropped.
pub(crate) struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: AbortHandle,
}

#[derive(Default)]
struct Zone {
    records: BTreeMap<String, Vec<RData>>,
    asked: Vec<String>,
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

impl Dns {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let serving = Arc::clone(&zone);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let answer = serving.lock().unwrap().answer(question);
                let _ = socket.send_to(&answer.to_vec().unwrap(), asker).await;
            }
        });
        Self { address, zone, task: task.abort_handle() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn add(&self, owner: &str, data: RData) {
        self.zone.lock().unwrap().records.entry(owner.to_ascii_lowercase()).or_default().push(data);
    }

    /// A host at 127.0.0.1.
    pub(crate) fn host(&self, host: &str) {
        self.host_at(host, Ipv4Addr::LOCALHOST);
    }

    /// A host at this address, too.
    pub(crate) fn host_at(&self, host: &str, address: Ipv4Addr) {
        self.add(host, RData::A(A(address)));
    }

    /// A record of a domain controller of `example.test`, or of one of its sites.
    pub(crate) fn controller(&self, site: Option<&str>, priority: u16, host: &str, port: u16) {
        let within = site.map(|site| format!("{site}._sites.")).unwrap_or_default();
        let owner = format!("_ldap._tcp.{within}dc._msdcs.example.test");
        self.add(&owner, RData::SRV(SRV::new(priority, 100, port, name(host))));
    }

    /// The names of SRV records that were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.zone.lock().unwrap().asked.clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Zone {
    fn answer(&mut self, question: Message) -> Message {
        let query = question.queries[0].clone();
        let owner = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
        if query.query_type() == RecordType::SRV {
            self.asked.push(owner.clone());
        }
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        match self.records.get(&owner) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(known) => {
                let fitting = known.iter().filter(|data| data.record_type() == query.query_type());
                for data in fitting {
                    answer.add_answer(Record::from_rdata(query.name().clone(), 300, data.clone()));
                }
            }
        }
        answer
    }
}
