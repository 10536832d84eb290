//! The truth suite reads other load testers' reports as they print them.

#[allow(dead_code, reason = "the bench calls the tools, too")]
#[path = "../../benches/truth/tools.rs"]
mod tools;

use tools::{OTHERS, Told};

fn told_by(name: &str, text: &str) -> Told {
    (OTHERS.iter().find(|tool| tool.name == name).unwrap().parse)(text)
}

#[test]
fn what_wrk_prints_is_read() {
    let text = "    Latency     1.49ms  760.91us   8.73ms   93.37%\n  Latency Distribution\n     50%  \
                    900.00us\n     75%    1.36ms\n     90%    1.46ms\n     99%    1.20s \n  1549 requests in 1.10s, \
                    173.96KB read\n";
    let told = Told {
        count: Some(1549),
        p50: Some(0.9),
        p90: Some(1.46),
        p95: None,
        p99: Some(1200.0),
        mean: Some(1.49),
    };
    assert_eq!(told_by("wrk", text), told);
}

#[test]
fn what_ab_prints_is_read() {
    let text = "Complete requests:      300\nTotal:          1    3   1.7      2       9\n  50%      1\n  90%      \
                    5\n  95%      6\n  99%      9\n 100%      9 (longest request)\n";
    let told = Told {
        count: Some(300),
        p50: Some(1.0),
        p90: Some(5.0),
        p95: Some(6.0),
        p99: Some(9.0),
        mean: Some(3.0),
    };
    assert_eq!(told_by("ab", text), told);
}
