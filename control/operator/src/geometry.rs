//! `mixctl geometry`: the packet's layout, from the constants the code is built on.

use std::io;

use serde_json::json;
use sphinx::{BODY_BYTES, HEADER_BYTES, HOPS_MAX, PACKET_BYTES, REPLY_BYTES, SURB_BYTES};

/// Prints the layout of datagram, packet, its blocks and the reply block.
///
/// # Errors
/// It can't be printed.
pub fn print(as_json: bool) -> io::Result<()> {
    program::print(&if as_json { document() } else { table() })
}

fn document() -> String {
    let fields: Vec<_> = sphinx::geometry()
        .iter()
        .map(|field| {
            json!({
                "within": field.within, "name": field.name,
                "offset": field.offset, "bytes": field.bytes,
            })
        })
        .collect();
    json!({
        "datagram_bytes": port::pool::DATAGRAM_BYTES, "packet_bytes": PACKET_BYTES,
        "header_bytes": HEADER_BYTES, "body_bytes": BODY_BYTES, "reply_bytes": REPLY_BYTES,
        "surb_bytes": SURB_BYTES, "hops_max": HOPS_MAX, "fields": fields,
    })
    .to_string()
}

fn table() -> String {
    let mut text = format!(
        "datagram {} bytes = link frame (16 clear and sealed head, 16 tag) + packet {PACKET_BYTES}\n\
         packet {PACKET_BYTES} = header {HEADER_BYTES} + body {BODY_BYTES}, up to {HOPS_MAX} hops\n\
         reply: {REPLY_BYTES} bytes through a reply block of {SURB_BYTES}",
        port::pool::DATAGRAM_BYTES
    );
    let mut within = "";
    for field in sphinx::geometry() {
        if field.within != within {
            within = field.within;
            text.push_str(&format!("\n\n{within}\n  offset  bytes  field"));
        }
        text.push_str(&format!(
            "\n  {:>6}  {:>5}  {}",
            field.offset, field.bytes, field.name
        ));
    }
    text
}
