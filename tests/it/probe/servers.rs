//! Real servers with short timeouts of odd values.

use super::*;
use crate::support::haproxy::Haproxy;
use crate::support::nginx::Nginx;

#[test]
fn the_keepalive_timeout_of_nginx_is_found() {
    let nginx = Nginx::new().keepalive_timeout(ms(1700)).start();
    brackets(&run(at(nginx.addr())), ms(1700), ms(0), CloseKind::Fin);
}

#[test]
fn the_keep_alive_timeout_of_haproxy_is_found() {
    let haproxy = Haproxy::new().keep_alive_timeout(ms(1300)).start();
    brackets(&run(at(haproxy.addr())), ms(1300), ms(0), CloseKind::Fin);
}
