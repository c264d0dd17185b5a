use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

#[derive(clap::Parser)]
struct PartLine {
    #[command(flatten)]
    arguments: crate::anonymity::Arguments,
}

#[test]
fn a_folder_is_asked_for_and_short_runs_are_drawn_only_on_request() {
    let parses = |line: &str| {
        let words = std::iter::once("report").chain(line.split_whitespace());
        <Line as clap::Parser>::try_parse_from(words).is_ok()
    };
    for line in [
        "--out a",
        "--from a",
        "--out a --quick --allow-quick",
        "--out a --only crypto,ports",
        "--from a --readme",
    ] {
        assert!(parses(line), "{line}");
    }
    for line in [
        "",
        "--out a --from b",
        "--out a --quick",
        "--from a --only crypto",
        "--readme",
    ] {
        assert!(!parses(line), "{line}");
    }
    let line = <Line as clap::Parser>::parse_from(["report", "--from", "a", "--allow-quick"]);
    assert!(line.arguments.allow_quick);
}

/// Results of which the README's figures are made.
fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("results")
}

/// Results of a short run of a build for tests: real ones, and for tests alone.
fn results() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/short")
}

fn html() -> String {
    page(&Stored::read(&results()).unwrap()).html()
}

/// A copy of the results whose files were changed.
fn changed(change: impl Fn(&str, String) -> String) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(results()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".json") {
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(folder.path().join(name), change(name, text)).unwrap();
        }
    }
    folder
}

#[test]
fn the_readme_shows_what_the_committed_results_say_and_nothing_else() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let from = readme.find(readme::FROM).expect("the README has the mark");
    let to = readme.find(readme::TO).expect("and the one after") + readme::TO.len();
    let block = readme::block(&Stored::read(&committed()).unwrap());
    assert_eq!(
        readme[from..to].trim_end(),
        block.trim_end(),
        "bench/figures --write makes it anew"
    );
    let sizes = std::fs::read_dir(results())
        .unwrap()
        .map(|entry| entry.unwrap());
    let sizes = sizes.filter(|entry| {
        entry
            .path()
            .extension()
            .is_some_and(|ending| ending == "json")
    });
    let bytes: u64 = sizes.map(|entry| entry.metadata().unwrap().len()).sum();
    assert!(bytes <= 200_000, "{bytes} bytes are committed");
}

#[test]
fn the_same_results_make_the_same_page_and_all_that_a_stranger_asks_for_is_on_it() {
    let folder = changed(|_, text| text);
    let first = write_page(folder.path(), true).unwrap();
    let bytes = std::fs::read(&first).unwrap();
    write_page(folder.path(), true).unwrap();
    assert_eq!(std::fs::read(&first).unwrap(), bytes);
    assert_eq!(String::from_utf8(bytes).unwrap(), html());

    let html = html();
    assert!(html.len() <= 800_000, "{} bytes", html.len());
    assert!(!html.contains("NaN") && !html.contains("inf ") && !html.contains("<script"));
    let figures: Vec<&str> = html.split("<figure>").skip(1).collect();
    assert!(!figures.is_empty());
    for figure in &figures {
        let figure = figure.split("</figure>").next().unwrap();
        for part in [
            "<h3>",
            "class=\"wide\"",
            "class=\"narrow\"",
            "<figcaption>",
            "<code>mixbench ",
            "<details>",
        ] {
            assert!(figure.contains(part), "no {part} in {figure}");
        }
        let link = figure
            .split("<a href=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert!(folder.path().join(link).exists(), "{link}");
    }
    for words in [
        "Not measured, and why",
        "A. What could one core",
        "a network card",
    ] {
        assert!(html.contains(words), "{words}");
    }
    // Nothing is fetched, and each name is there once.
    assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("src="));
    let mut ids: Vec<&str> = html
        .split(" id=\"")
        .skip(1)
        .map(|part| part.split('"').next().unwrap())
        .collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
}

#[test]
fn tags_are_closed_in_the_order_in_which_they_were_opened() {
    let html = html();
    let mut open: Vec<&str> = Vec::new();
    for tag in html
        .split('<')
        .skip(1)
        .map(|part| part.split('>').next().unwrap())
    {
        let name = tag.split([' ', '/']).next().unwrap();
        match tag.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed)),
            None if tag.ends_with('/') || matches!(name, "meta" | "link" | "!DOCTYPE") => {}
            None => open.push(name),
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn short_runs_wrong_figures_and_missing_results_are_told() {
    let quick = changed(|_, text| text);
    let refused = write_page(quick.path(), false).unwrap_err().to_string();
    assert!(refused.contains("--allow-quick"), "{refused}");
    let page = std::fs::read_to_string(write_page(quick.path(), true).unwrap()).unwrap();
    assert!(page.contains("its figures are for no report"));

    let wrong =
        changed(|_, text| text.replace("\"failures\":[]", "\"failures\":[\"parts < whole\"]"));
    let page = std::fs::read_to_string(write_page(wrong.path(), true).unwrap()).unwrap();
    assert!(page.contains("WRONG: parts &lt; whole"));

    let fewer = changed(|_, text| text);
    std::fs::remove_file(fewer.path().join("crypto.json")).unwrap();
    let page = std::fs::read_to_string(write_page(fewer.path(), true).unwrap()).unwrap();
    assert!(page.contains("<td>mixbench crypto</td><td>no result of it is in this folder</td>"));

    let foreign = changed(|_, text| text.replace("fogmix-bench/1", "fogmix-bench/2"));
    assert!(
        write_page(foreign.path(), true)
            .unwrap_err()
            .to_string()
            .contains("another mixbench")
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(
        write_page(empty.path(), true)
            .unwrap_err()
            .to_string()
            .contains("holds no results")
    );
}

#[test]
fn of_a_network_no_more_is_concluded_than_was_seen() {
    let title = |changes: &[(&str, &str)]| {
        let folder = changed(|name, text| {
            let with = |text: String, (from, to): &(&str, &str)| {
                assert!(name != "network.json" || text.contains(from), "{from}");
                text.replace(from, to)
            };
            match name {
                "network.json" => changes.iter().fold(text, with),
                _ => text,
            }
        });
        let html = page(&Stored::read(folder.path()).unwrap()).html();
        let title = html
            .split("<h3>")
            .find(|part| part.contains("million draws of the law"));
        let title = title.unwrap().split("</figcaption>").next().unwrap();
        title.to_owned()
    };
    let lost = ("\"lost_messages\":0", "\"lost_messages\":3");
    let judged = ("\"is_judged\":false", "\"is_judged\":true");
    let near = ("\"ks_d\":0.45149", "\"ks_d\":0.005");
    let said = title(&[]);
    assert!(said.starts_with("Whether messages take as long as theory says is not judged"));
    assert!(said.contains("Not judged: it takes 20000 probes"), "{said}");
    assert!(title(&[judged]).starts_with("Messages do NOT take"));
    assert!(title(&[judged, lost]).starts_with("Messages do NOT take"));
    let said = title(&[judged, near]);
    assert!(said.starts_with("Messages take as long as theory says, to within about 3 ms: D"));
    assert!(said.contains("% of the 40 ms that hops hold it"), "{said}");
    assert!(title(&[judged, near, lost]).starts_with("3 messages got lost"));
    assert!(title(&[lost]).starts_with("3 messages got lost"));
}

#[test]
fn the_block_of_the_readme_has_a_line_of_everything_and_none_of_what_was_not_measured() {
    let folder = changed(|_, text| text);
    let block = || readme::block(&Stored::read(folder.path()).unwrap());
    let lines = [
        ("crypto", "| a hop, native suite, in batches |"),
        ("ports", "| port | CPU ns a datagram |"),
        ("lockstep", "| port | CPU ns a packet |"),
        (
            "paced",
            "| port | sustained, 0.1 % lost at most | 25,000 packets/s |",
        ),
        ("peers", "| | packets/s a core | users' MB/s a core |"),
        (
            "network",
            ": 20 clients with 20 slots a second each for 5 s",
        ),
        ("anonymity", "\n- Area under the attack's curve"),
    ];
    let whole = block();
    for (name, line) in lines {
        assert!(whole.contains(line), "{name}: {whole}");
        std::fs::remove_file(folder.path().join(format!("{name}.json"))).unwrap();
        assert!(!block().contains(line), "{name}");
    }
}

#[test]
fn parts_of_a_run_are_added_up_on_the_page_or_it_says_why_not() {
    let folder = changed(|_, text| text);
    let write = |number: u32| {
        let command = <PartLine as clap::Parser>::parse_from([
            "anonymity".to_owned(),
            "--quick".to_owned(),
            "--users=700".to_owned(),
            "--seconds=5".to_owned(),
            format!("--shard={number}/2"),
        ]);
        let envelope = crate::anonymity::run(&command.arguments).unwrap();
        let json = serde_json::to_string(&envelope).unwrap();
        std::fs::write(folder.path().join(format!("part{number}.json")), json).unwrap();
        page(&Stored::read(folder.path()).unwrap()).html()
    };
    let html = write(2);
    assert!(html.contains("do not add up: of 2 parts each has to be there once"));
    let html = write(1);
    assert!(html.contains("A run in 2 parts, added up: 700 users at 1/s for 5 s"));
    // The curves are still those of the whole command.
    assert!(html.contains("clients at a constant rate"));
}

#[test]
fn laboratories_of_several_sizes_are_drawn_and_what_they_lost_is_in_the_title() {
    let folder = changed(|_, text| text);
    let one = |by: &str, [users, nodes, cores]: [u64; 3], cpu_s: f64, lost: u64| {
        let times = serde_json::json!({
            "count": 90, "p50_us": 700_000, "p99_us": 1_900_000, "p999_us": 2_000_000, "max_us": 2_000_000
        });
        serde_json::json!({
            "by": by, "users": users, "nodes": nodes, "cores": cores, "seconds": 10.0, "pps": 4.0 * users as f64,
            "cpu_s": cpu_s, "lost_messages": lost, "one_way": times, "late": times
        })
    };
    let html = |lost| {
        let scaling = serde_json::json!({
            "rate_pps": 4, "mean_delay_ms": 50, "port": "uring",
            "scaling": [
                one("users", [800, 8, 2], 16.0, 0),
                one("users", [50, 8, 2], 1.5, 0),
                one("nodes", [200, 8, 2], 5.0, 0),
                one("cores", [200, 8, 1], 4.0, lost),
                one("cores", [200, 8, 2], 4.8, 0),
            ]
        });
        let scaling = serde_json::from_value(scaling).unwrap();
        let session = crate::envelope::Session::begin(true, 0);
        let envelope = session.end(Results::Scaling(scaling), std::collections::BTreeMap::new());
        let json = crate::envelope::assert_valid(&envelope).to_string();
        std::fs::write(folder.path().join("scaling.json"), json).unwrap();
        page(&Stored::read(folder.path()).unwrap()).html()
    };
    let page = html(0);
    for said in [
        // 1.5 s of 2,000 datagrams, 16 of 32,000.
        "With 800 users a packet takes 500 µs of the nodes&#39; CPU time, with 50 it takes 750, and nothing is lost",
        "Of 8 nodes a packet takes 625 µs",
        "8 nodes on 1 of 2 cores take 500 µs of CPU time for a packet, on all 600, and nothing is lost",
        // 25,000/s × 100 ms × 1.5 × 2 KiB.
        "<td>25,000</td><td>1.5</td><td>3.7</td><td>7.3</td>",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert!(html(3).contains("3 messages got lost. 8 nodes on 1 of 2 cores"));
}

#[test]
fn outfox_beside_it_is_taken() {
    let folder = changed(|_, text| text);
    let outfox =
        r#"{"lanes":"ifma","runs":40,"results":[],"ratios":{"hop_native_vs_nym_outfox":10.4}}"#;
    std::fs::write(folder.path().join("outfox.json"), outfox).unwrap();
    let page = std::fs::read_to_string(write_page(folder.path(), true).unwrap()).unwrap();
    assert!(page.contains("A hop of nym-outfox takes 10.4"));
}

/// Where Debian has it, and others.
const BROWSERS: [&str; 3] = [
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
];

/// Measured in the browser: how much wider than its window the page is, and the widest drawing's overhang.
const RULER: &str = "<script>addEventListener('load',()=>{const e=document.documentElement;\
    const over=[...document.querySelectorAll('main,figure,svg,.card,p,dl,h1,h2,h3,.wide-table')]\
    .map(x=>x.getBoundingClientRect().right-innerWidth).filter(x=>x>0.5).length;\
    const shown=[...document.querySelectorAll('svg')].filter(x=>x.getBoundingClientRect().width>0).length;\
    document.title='over '+(e.scrollWidth-innerWidth>0?1:0)+' '+over+' shown '+shown})</script>";

#[test]
fn a_browser_shows_it_on_a_phone_and_on_a_desk_without_a_complaint() {
    let Some(browser) = BROWSERS.iter().find(|path| Path::new(path).exists()) else {
        eprintln!(
            "SKIPPED: no browser is installed (apt install chromium): nobody looked at the page"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let html = html();
    let drawings = html.matches("<svg class=\"wide\"").count();
    // A browser without a window is 500 wide at least, so the page is looked at in a frame.
    std::fs::write(
        folder.path().join("page.html"),
        html.replace("</body>", &format!("{RULER}</body>")),
    )
    .unwrap();
    for width in [390, 1_440] {
        let frame = format!(
            "<iframe src=\"page.html\" style=\"width:{width}px;height:900px;border:0\"></iframe>\
             <script>setInterval(()=>{{document.title=frames[0].document.title}},50)</script>"
        );
        let outer = folder.path().join(format!("{width}.html"));
        std::fs::write(&outer, frame).unwrap();
        let output = Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            .args([
                "--enable-logging=stderr",
                "--log-level=0",
                "--allow-file-access-from-files",
            ])
            .arg(format!(
                "--user-data-dir={}",
                folder.path().join("home").display()
            ))
            .args(["--virtual-time-budget=3000", "--window-size=1600,1000"])
            .arg(format!("file://{}", outer.display()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let dom = String::from_utf8_lossy(&output.stdout);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(!complaints.contains("CONSOLE"), "{complaints}");
        let wanted = format!("<title>over 0 0 shown {drawings}</title>");
        assert!(
            dom.contains(&wanted),
            "{width}: {}",
            dom.get(..300).unwrap_or(&dom)
        );
    }
}
