//! `mixctl geometry`: the packet's layout, from the constants the code is built on.

use serde_json::json;
use sphinx::{BODY_BYTES, HEADER_BYTES, HOPS_MAX, PACKET_BYTES, REPLY_BYTES, SURB_BYTES};

/// Prints the layout of datagram, packet, its blocks and the reply block.
pub fn print(as_json: bool) {
    let fields = sphinx::geometry();
    if as_json {
        let fields: Vec<_> = fields
            .iter()
            .map(|field| {
                json!({
                    "within": field.within, "name": field.name,
                    "offset": field.offset, "bytes": field.bytes,
                })
            })
            .collect();
        let document = json!({
            "datagram_bytes": port::pool::DATAGRAM_BYTES, "packet_bytes": PACKET_BYTES,
            "header_bytes": HEADER_BYTES, "body_bytes": BODY_BYTES, "reply_bytes": REPLY_BYTES,
            "surb_bytes": SURB_BYTES, "hops_max": HOPS_MAX, "fields": fields,
        });
        println!("{document}");
        return;
    }
    println!(
        "datagram {} bytes = link frame (16 clear and sealed head, 16 tag) + packet {PACKET_BYTES}",
        port::pool::DATAGRAM_BYTES
    );
    println!(
        "packet {PACKET_BYTES} = header {HEADER_BYTES} + body {BODY_BYTES}, up to {HOPS_MAX} hops"
    );
    println!("reply: {REPLY_BYTES} bytes through a reply block of {SURB_BYTES}");
    let mut within = "";
    for field in fields {
        if field.within != within {
            within = field.within;
            println!("\n{within}\n  offset  bytes  field");
        }
        println!("  {:>6}  {:>5}  {}", field.offset, field.bytes, field.name);
    }
}
