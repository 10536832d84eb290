//! A `Keep-Alive` field, and what is made of it.

use keeplive::Hint;

/// Whatever a server sends, the hint is none, or says something; and of two fields joined the smaller promise counts.
pub(crate) fn run(input: &[u8]) {
    let hint = Hint::parse(input);
    assert_ne!(hint, Some(Hint::default()), "a hint that says nothing is none");
    let digits = input.iter().filter(|byte| byte.is_ascii_digit()).count();
    assert!(digits > 0 || hint.is_none(), "a number out of nothing");
    let both = Hint::parse(&[input, b", timeout=7, max=7"].concat());
    // A quoted string that was left open swallows what follows.
    if !input.contains(&b'"') {
        let both = both.expect("the second says something");
        let (timeout, max) = (both.timeout.expect("it has one"), both.max.expect("it has one"));
        assert!(timeout.as_secs() <= 7 && max <= 7, "{both:?}");
        let one = hint.unwrap_or_default();
        assert!(one.timeout.is_none_or(|one| timeout <= one) && one.max.is_none_or(|one| max <= one));
    }
}
