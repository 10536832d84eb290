//! The truth suite reads other load testers' reports as they print them, and its scoring is strict where the truth is
//! smooth and knows edges.

#[allow(dead_code, reason = "the bench runs the cases, too")]
#[path = "../../benches/truth/cases.rs"]
mod cases;
#[allow(dead_code, reason = "the bench prints the scores, too")]
#[path = "../../benches/truth/score.rs"]
mod score;
#[allow(dead_code, reason = "the bench calls the tools, too")]
#[path = "../../benches/truth/tools.rs"]
mod tools;

use cases::queue_mean;
use score::{Score, Span, Truth, matrix};
use tools::{Ask, OTHERS, Told};

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
fn what_wrk2_prints_is_read() {
    let text = "    Latency   831.97us  593.04us   6.69ms   85.02%\n  Latency Distribution (HdrHistogram - Recorded \
                Latency)\n 50.000%  760.00us\n 75.000%    1.10ms\n 90.000%    1.32ms\n 99.000%    3.79ms\n\n  Detailed \
                Percentile spectrum:\n       Value   Percentile   TotalCount 1/(1-Percentile)\n\n       1.448     \
                0.943750         2817        17.78\n       1.467     0.950000         2835        20.00\n#[Mean    =        \
                0.832, StdDeviation   =        0.593]\n  2985 requests in 6.00s, 335.23KB read\n";
    let told = Told {
        count: Some(2985),
        p50: Some(0.76),
        p90: Some(1.32),
        p95: Some(1.467),
        p99: Some(3.79),
        mean: Some(0.832),
    };
    assert_eq!(told_by("wrk2", text), told);
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

#[test]
fn what_h2load_prints_and_logs_is_read() {
    let text = "finished in 2.00s, 1394.00 req/s, 11.12MB/s\nrequests: 4 total, 8 started, 4 done, 4 succeeded, 0 \
                failed, 0 errored, 0 timeout\nstatus codes: 4 2xx, 0 3xx, 0 4xx, 0 5xx\n1764059247000123\t200\t1000\n\
                1764059247000223\t200\t3000\n1764059247000323\t200\t2000\n1764059247000423\t200\t9500\n";
    let told = Told {
        count: Some(4),
        p50: Some(2.0),
        p90: Some(9.5),
        p95: Some(9.5),
        p99: Some(9.5),
        mean: Some(3.875),
    };
    assert_eq!(told_by("h2load", text), told);
}

/// What both reports below say.
fn told_of_200() -> Told {
    Told { count: Some(200), p50: Some(1.0), p90: Some(2.0), p95: Some(4.0), p99: Some(8.0), mean: Some(2.5) }
}

#[test]
fn what_hey_prints_is_read() {
    let text = "Summary:\n  Total:\t2.0021 secs\n  Slowest:\t0.0105 secs\n  Fastest:\t0.0002 secs\n  \
                Average:\t0.0025 secs\n  Requests/sec:\t995.10\n\nLatency distribution:\n  10% in 0.0007 secs\n  50% in \
                0.0010 secs\n  90% in 0.0020 secs\n  95% in 0.0040 secs\n  99% in 0.0080 secs\n\nStatus code \
                distribution:\n  [200]\t198 responses\n  [500]\t2 responses\n";
    assert_eq!(told_by("hey", text), told_of_200());
}

#[test]
fn what_oha_prints_is_read() {
    let text = r#"{"summary":{"successRate":1.0,"total":2.0,"average":0.0025},"latencyPercentiles":{"p10":0.0007,
        "p50":0.0010,"p90":0.0020,"p95":0.0040,"p99":0.0080,"p99.9":0.0090},"statusCodeDistribution":{"200":200}}"#;
    assert_eq!(told_by("oha", text), told_of_200());
}

#[test]
fn a_tool_that_is_not_told_a_case_it_cannot_do_is_left_out_of_it() {
    let ask = Ask { url: "http://127.0.0.1:1/", rate: 100, seconds: 1, connections: 2, keep_alive: false };
    let can = |name: &str| (OTHERS.iter().find(|tool| tool.name == name).unwrap().words)(&ask).is_some();
    assert!(can("wrk") && can("ab") && !can("h2load"));
}

/// Tene's freeze: half of the requests are fast, and the slow half begins at the median itself.
fn frozen_for_half() -> Truth {
    Truth::of((0..2_000).map(|nth| if nth < 1_000 { 1.0 } else { 10.0 * f64::from(nth - 999) }).collect())
}

#[test]
fn a_quantile_on_an_edge_may_fall_to_either_side_and_no_further() {
    let truth = frozen_for_half();
    assert_eq!(truth.around(0.5), Span { from: 1.0, to: 20.0 });
    for (told, right) in [(1.0, true), (20.9, true), (40.0, false), (0.4, false)] {
        assert_eq!(truth.around(0.5).holds(told), right, "{told}");
    }
    // Away from edges it is as strict as without: what 2 ranks are is less than 5 %.
    assert!(!truth.around(0.9).holds(7_000.0) && truth.around(0.9).holds(8_100.0));
}

#[test]
fn one_that_leaves_out_the_wait_fails_every_quantile_that_waits() {
    let blind = Told {
        count: Some(2_000),
        p50: Some(1.0),
        p90: Some(1.0),
        p95: None,
        p99: Some(1.0),
        mean: Some(6.0),
    };
    let score = Score::of(&blind, &frozen_for_half(), None, None, 2_003);
    assert_eq!(score.cell(), "FAIL p90 p99 mean count (p95)");
}

/// rho = 0.7, 1 ms each: 2.167 ms under Poisson arrivals, where even ones would be 1 ms.
#[test]
fn the_mean_of_the_queue_is_the_closed_form_within_a_tenth() {
    let span = queue_mean(700, 30);
    assert!(span.from < 2.1667 && 2.1667 < span.to, "{span:?}");
    assert!(span.to - span.from < 0.8 && !span.holds(1.1), "{span:?}");
}

#[test]
fn the_matrix_has_a_row_for_each_case_and_a_column_for_each_tool() {
    let rows =
        [("P1", vec!["PASS".to_owned(), "FAIL p90".to_owned()]), ("P22", vec!["n/a".into(), "PASS".into()])];
    assert_eq!(
        matrix(&["keeplive", "ab"], &rows),
        "     keeplive  ab\nP1   PASS      FAIL p90\nP22  n/a       PASS\n"
    );
}

#[test]
fn an_answer_that_the_servers_log_shows_as_later_may_be_told_as_late_and_never_as_earlier() {
    let (form, log) = (Truth::of(vec![10.0; 1_000]), Truth::of(vec![14.0; 1_000]));
    let told = |ms| Told { count: Some(1_000), p50: ms, p90: ms, p95: ms, p99: ms, mean: ms };
    let passes = |ms| Score::of(&told(Some(ms)), &form, Some(&log), None, 1_000).passes();
    assert!(passes(10.0) && passes(14.5) && !passes(15.0) && !passes(9.0));
    assert!(!Score::of(&told(Some(14.0)), &form, None, None, 1_000).passes());
}
