"""Where Redis is: what a URL may say, and what is told of one that can't be understood."""

import pytest

from sred_email_core.redis_address import Credentials, RedisAddress, Topology, check_prefix, parse_redis_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", RedisAddress(Topology.SINGLE, (("h", 6379),))),
        ("redis://h:1/", RedisAddress(Topology.SINGLE, (("h", 1),))),
        ("rediss://[::1]:6380/3", RedisAddress(Topology.SINGLE, (("::1", 6380),), tls=True, database=3)),
        (
            "redis://user:p%40ss@h/0",
            RedisAddress(Topology.SINGLE, (("h", 6379),), credentials=Credentials("user", "p@ss")),
        ),
        ("redis://:pass@h", RedisAddress(Topology.SINGLE, (("h", 6379),), credentials=Credentials(None, "pass"))),
        ("unix:///run/redis.sock", RedisAddress(Topology.SINGLE, (), path="/run/redis.sock")),
        (
            "unix://user:pass@/run/redis.sock?db=2",
            RedisAddress(
                Topology.SINGLE, (), credentials=Credentials("user", "pass"), database=2, path="/run/redis.sock"
            ),
        ),
        (
            "redis+sentinel://a,b:1,[::1]:2/main",
            RedisAddress(Topology.SENTINEL, (("a", 26379), ("b", 1), ("::1", 2)), service="main"),
        ),
        (
            "rediss+sentinel://u:p@a/main/4?sentinel_username=su&sentinel_password=s%26p",
            RedisAddress(
                Topology.SENTINEL,
                (("a", 26379),),
                tls=True,
                credentials=Credentials("u", "p"),
                database=4,
                service="main",
                sentinel_credentials=Credentials("su", "s&p"),
            ),
        ),
        ("redis+cluster://a:7000,b", RedisAddress(Topology.CLUSTER, (("a", 7000), ("b", 6379)))),
        ("rediss+cluster://a/0", RedisAddress(Topology.CLUSTER, (("a", 6379),), tls=True)),
    ],
)
def test_every_form_is_understood(url: str, address: RedisAddress) -> None:
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://h", "must begin with one of redis://"),
        ("redis:h", "must begin with"),
        ("redis+sentinels://h/main", "must begin with"),
        ("redis://", "must name a host"),
        ("redis://h:0", "must name a host"),
        ("redis://h:65536", "must name a host"),
        ("redis://h:port", "must name a host"),
        ("redis://::1", "must name a host"),
        ("redis://a,b", "several hosts are redis+sentinel"),
        ("redis://h/main", "must end with the number of a database"),
        ("redis://h?decode_responses=1", "takes no options"),
        ("redis://h?ssl_cert_reqs=none", "certificates have variables of their own"),
        ("unix://", "must name a socket"),
        ("unix://host/run/redis.sock", "must name a socket"),
        ("unix:///run/redis.sock?timeout=1", "may have the options db only"),
        ("redis+sentinel://a", "must name the service"),
        ("redis+sentinel://a/main/x", "must end with the number of a database"),
        ("redis+sentinel://a/main?password=x", "may have the options sentinel_password, sentinel_username only"),
        ("redis+cluster://a,", "must name a host"),
        ("redis+cluster://a/1", "a cluster has the database 0 only"),
    ],
)
def test_what_is_wrong_is_said(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match="^.*" + problem.replace("+", r"\+")):
        parse_redis_url(url)


@pytest.mark.parametrize(
    "url", ["redis://user:hunter2@a,b", "hunter2://h", "redis+cluster://:hunter2@h/5", "redis://hunter2:x"]
)
def test_nothing_of_the_url_is_told_because_it_may_be_a_secret(url: str) -> None:
    with pytest.raises(ValueError, match=r"^") as problem:
        parse_redis_url(url)
    assert "hunter2" not in str(problem.value)
    assert "hunter2" not in repr(parse_redis_url("redis+sentinel://u:hunter2@h/main?sentinel_password=hunter2"))


@pytest.mark.parametrize(
    ("prefix", "fits"),
    [
        ("{sred:email}", True),
        ("a{b}c", True),
        ("sred:email", False),
        ("{}sred", False),
        ("{}{sred}", False),
        ("{sred", False),
    ],
)
def test_on_a_cluster_the_prefix_must_hold_a_hash_tag(prefix: str, fits: bool) -> None:
    check_prefix(parse_redis_url("redis://h"), prefix)
    if fits:
        check_prefix(parse_redis_url("redis+cluster://h"), prefix)
    else:
        with pytest.raises(ValueError, match="must hold a hash tag on a cluster"):
            check_prefix(parse_redis_url("redis+cluster://h"), prefix)
