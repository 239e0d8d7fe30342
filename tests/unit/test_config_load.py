import operator
from pathlib import Path

import pytest

from openegress.app.worker_config import context_maker, job_keys, key_services, keys_of
from openegress.config.check import check
from openegress.config.destination import LOCKS, storage_plan
from openegress.config.finding import Level
from openegress.config.load import COSTS, load
from openegress.config.settings import CPUCost, LogLevel, Settings
from openegress.core import storages
from openegress.core.errors import EgressError
from openegress.core.room_keys import KeyDerivation, RoomKey
from openegress.core.values import Secret
from openegress.request.destinations import AssumeRole
from openegress.worker.key_service import KeyServiceAddress

UPSTREAM = """
api_key: key
api_secret: 0123456789
ws_url: wss://livekit.example.com
redis:
  address: redis:6379
  username: egress
  password: 007
  db: 2
health_port: 8080
template_port: 7981
prometheus_port: "9090"
debug_handler_port: 9091
logging:
  level: debug
  json: true
template_base: https://templates.example.com/
enable_chrome_sandbox: true
cpu_cost:
  room_composite_cpu_cost: 3.0
  sdk_audio_room_composite_memory_cost: 1.0
  max_cpu_utilization: 0.9
session_limits:
  file_output_max_duration: 1h
  stream_output_max_duration: 90m
  segment_output_max_duration: 3h
storage:
  prefix: live
  s3:
    access_key: AKIA
    secret: s3cret
    region: eu-central-1
    bucket: recordings
    max_retries: 3
    max_retry_delay: 5s
    min_retry_delay: 500ms
    proxy_config: {url: "http://proxy:3128", username: u, password: p}
backup:
  local: {storage_dir: /backup}
chrome_flags: {enable-gpu: true, mute-audio: false, lang: de}
insecure: true
"""


def local(root: str, setting: str) -> storages.LocalStorage:
    """A folder in which nothing but the locks is the service's own."""
    return storages.LocalStorage(root, (f"{root}/{LOCKS}",), setting)


def test_a_configuration_of_upstream_is_taken_as_it_is() -> None:
    loaded = load(body=UPSTREAM, environ={})
    settings = loaded.settings
    assert loaded.warnings == ()
    assert (settings.api_key, settings.api_secret.reveal()) == ("key", "0123456789")
    assert (settings.redis.address, settings.redis.password.reveal(), settings.redis.db) == (
        "redis:6379",
        "007",
        2,
    )
    assert (settings.health_port, settings.prometheus_port, settings.template_port) == (8080, 9090, 7981)
    assert (settings.logging.level, settings.logging.json) == (LogLevel.DEBUG, True)
    assert settings.enable_chrome_sandbox is True
    assert settings.cpu_cost.room_composite_cpu_cost == 3.0
    assert settings.session_limits.stream_output_max_duration == 5400
    assert settings.chrome_flags == {"enable-gpu": True, "mute-audio": False, "lang": "de"}
    assert storage_plan(settings) == storages.StoragePlan(
        backend=storages.S3Storage(
            bucket="recordings",
            access_key="AKIA",
            secret="s3cret",
            region="eu-central-1",
            proxy=storages.Proxy("http://proxy:3128", "u", "p"),
            max_retries=3,
            min_retry_delay_s=0.5,
        ),
        prefix="live",
        backup=local("/backup", "backup.local.storage_dir"),
    )


@pytest.mark.parametrize(
    ("block", "backend"),
    [
        ("s3: {bucket: b, endpoint: 'http://minio:9000', force_path_style: true, tagging: a=b}",
         storages.S3Storage("b", endpoint="http://minio:9000", force_path_style=True, tagging="a=b")),
        ("azure: {account_name: a, account_key: k, container_name: c}", storages.AzureStorage("c", "a", "k")),
        ("gcp: {bucket: b, credentials_json: '{\"type\": 1}'}", storages.GCPStorage("b", '{"type": 1}')),
        ("alioss: {bucket: b, access_key: a, secret: s, region: r, endpoint: e}",
         storages.AliOSSStorage("b", "a", "s", "r", "e")),
        ("local: {storage_dir: /out}", local("/out", "storage.local.storage_dir")),
    ],
)  # fmt: skip
def test_destinations(block: str, backend: storages.Backend) -> None:
    chosen = storage_plan(
        load(body=f"storage: {{{block}, generate_presigned_url: true}}", environ={}).settings
    )
    assert chosen is not None
    assert chosen.backend == backend
    assert chosen.presign


def test_without_storage_files_stay_here_if_they_may() -> None:
    settings = load(body="output_root: /rec", environ={}).settings
    assert storage_plan(settings) == storages.StoragePlan(local("/rec", "output_root"))


@pytest.mark.parametrize("disallowed", ["true", "false"])
def test_without_storage_requests_keep_the_servers_manners(disallowed: str) -> None:
    settings = load(
        body=f"""
            disallow_local_storage: {disallowed}
            storage: {{prefix: live, generate_presigned_url: true}}
            backup: {{local: {{storage_dir: /spare}}, prefix: b}}
            retries: {{upload_for: 5m}}
            storage_check: false
            s3_assume_role_arn: arn:r
            s3_assume_role_external_id: x
            s3_assume_role_key: K
            s3_assume_role_secret: S
        """,
        environ={},
    ).settings
    context = context_maker(settings)()
    assert context.allow_local is (disallowed == "false")
    assert context.assume_role == AssumeRole("K", "S", "arn:r", "x")
    assert context.storage == storages.StoragePlan(
        backend=local(str(settings.output_path), "output_root"),
        prefix="live",
        backup=local("/spare", "backup.local.storage_dir"),
        backup_prefix="b",
        presign=True,
        retry_for_s=300.0,
        check=False,
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("log_level: debug", "logging: {level: debug}"),
        ("s3: {bucket: b, proxy: {url: 'http://p'}}", "storage: {s3: {bucket: b, proxy_config: {url: 'http://p'}}}"),
        ("gcp: {bucket: b, credentials: c}", "storage: {gcp: {bucket: b, credentials_json: c}}"),
        ("azure: {container: c}", "storage: {azure: {container_name: c}}"),
        ("aliOSS: {bucket: b}", "storage: {alioss: {bucket: b}}"),
        ("backup_storage: /mnt", "backup: {local: {storage_dir: /mnt}}"),
        ("redis: {use_tls: true}", "redis: {tls: {enabled: true}}"),
        ("latency: {rtpmaxallowedtsdiff: 7s}", "latency: {rtp_max_allowed_ts_diff: 7s}"),
    ],
)  # fmt: skip
def test_older_spellings_count_with_a_warning(old: str, new: str) -> None:
    was, now = load(body=old, environ={}), load(body=new, environ={})
    assert was.settings == now.settings != Settings()
    assert now.warnings == ()
    assert was.warnings
    assert all("is called" in warning for warning in was.warnings)


def test_a_new_spelling_wins_over_an_old_one() -> None:
    loaded = load(body="log_level: debug\nlogging: {level: error}", environ={})
    assert loaded.settings.logging.level is LogLevel.ERROR
    assert loaded.warnings == ("log_level: ignored, because logging.level is set too",)


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ("sesion_limits: {}", "sesion_limits: unknown key, ignored; did you mean session_limits?"),
        ("storage: {s3: {bucket: b, force_path_styl: true}}",
         "storage.s3.force_path_styl: unknown key, ignored; did you mean force_path_style?"),
        ("zzz: 1", "zzz: unknown key, ignored"),
    ],
)  # fmt: skip
def test_unknown_keys_are_named_with_the_nearest(body: str, warning: str) -> None:
    assert load(body=body, environ={}).warnings == (warning,)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("health_port: abc", 'health_port: "abc" is not a whole number'),
        ("port: 70000", "port: 70000 is not a port"),
        ("port: 80\nhealth_port: 80", "health_port: 80 is already port's"),
        ("insecure: maybe", 'insecure: "maybe" is not true or false'),
        ("cpu_cost: {web_cpu_cost: much}", 'cpu_cost.web_cpu_cost: "much" is not a number'),
        ("logging: {level: loud}", 'logging.level: "loud" is not one of debug, info, warn, error'),
        ("session_limits: {file_output_max_duration: 3600}", '"3600" is not a duration with its unit'),
        ("timeouts: {start_signal: 0}", "timeouts.start_signal: 0 leaves no time at all"),
        ("queue: {max_wait: 1 hour}", 'queue.max_wait: "1 hour" is not a duration with its unit'),
        ("queue: {max_wait: -1s}", 'queue.max_wait: "-1s" is not a duration that is not negative'),
        ("webhook: {urls: [ftp://x]}", 'webhook.urls: "ftp://x" is not a URL with a host; write http'),
        ("ws_url: livekit.example.com", 'ws_url: "livekit.example.com" is not a URL with a host; write ws://'),
        ("deny_networks: [10.0.0.1/8]", 'deny_networks: "10.0.0.1/8" is not a network'),
        ("storage: {s3: {bucket: a}, gcp: {bucket: b}}", "storage: s3 and gcp are both set"),
        ("storage: {s3: {region: r}}", "storage.s3.bucket: missing"),
        ("api_key: k", 'api_secret: missing for api_key "k"'),
        ("webhook: {api_key: who}", 'webhook.api_key: "who" is not a known API key'),
        ("redis: {sentinel_addresses: ['a:1']}", "redis.sentinel_master_name: missing"),
        ("a: [1", "line 1: not YAML"),
        ("- a", "the configuration is a mapping"),
        ("latency_overrides: {web: {pipeline_latency: x}}",
         'latency_overrides.web.pipeline_latency: "x" is not a duration'),
    ],
)  # fmt: skip
def test_mistakes_name_the_key_and_the_value(body: str, message: str) -> None:
    with pytest.raises(EgressError) as caught:
        load(body=body, environ={})
    assert caught.value.message.startswith("--config-body: ")
    assert message in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        "api_secret: {deep: hunter2}",
        "redis: {password: [hunter2]}",
        "redis: redis://:hunter2@localhost",
        "keys: 'k: hunter2'",
        "storage: {s3: hunter2}",
        "webhook: {urls: ['ftp://user:hunter2@x']}",
        "ws_url: http://a:hunter2@/",
    ],
)
def test_mistakes_never_show_a_secret(body: str) -> None:
    with pytest.raises(EgressError) as caught:
        load(body=body, environ={})
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("body", "setting", "value"),
    [
        ("io_create_timeout: 0", "io_create_timeout", 15),
        ("io_update_timeout: 0s", "io_update_timeout", 30),
        ("io_selection_timeout: 0", "io_selection_timeout", 1),
        ("io_create_timeout: 2000000000", "io_create_timeout", 2),
        ("logging: {level: INFO}", "logging.level", "info"),
        ("logging: {level: warning}", "logging.level", "warn"),
        ("logging: {level: fatal}", "logging.level", "error"),
        ("cpu_cost: {max_cpu_utilization: 0}", "cpu_cost.max_cpu_utilization", 0.8),
        ("cpu_cost: {max_cpu_utilization: 80}", "cpu_cost.max_cpu_utilization", 0.8),
        ("cpu_cost: {memory_source: hybrid}", "cpu_cost.memory_source", "hybrid"),
    ],
)
def test_values_are_read_as_upstream_reads_them(body: str, setting: str, value: object) -> None:
    assert operator.attrgetter(setting)(load(body=body, environ={}).settings) == value


def test_a_share_of_the_cpu_that_cannot_be_is_told() -> None:
    (warning,) = load(body="cpu_cost: {max_cpu_utilization: 80}", environ={}).warnings
    assert warning == "cpu_cost.max_cpu_utilization: 80 is not in (0, 1], taken as 0.8"


@pytest.mark.parametrize("name", COSTS)
def test_what_is_below_zero_is_told_and_makes_no_room(name: str) -> None:
    loaded = load(body=f"cpu_cost: {{{name}: -1}}", environ={})
    assert loaded.warnings == (f"cpu_cost.{name}: -1 is below zero, taken as 0",)
    assert loaded.settings.cpu_cost == CPUCost()


def test_settings_that_are_given_complete_those_of_the_environment() -> None:
    environ = {"LIVEKIT_API_KEY": "k"}
    with pytest.raises(EgressError, match="api_secret: missing"):
        load(environ=environ)
    settings = load(environ=environ, given={"api_secret": Secret("s" * 32)}).settings
    assert settings.all_keys == {"k": Secret("s" * 32)}
    with pytest.raises(EgressError, match="port: 70000 is not a port"):
        load(environ={}, given={"port": 70000})


def test_relative_folders_are_below_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(
        body="{data_dir: data, output_root: ., storage: {local: {storage_dir: out}}}", environ={}
    ).settings
    assert (settings.data_path, settings.output_path) == (tmp_path / "data", tmp_path)
    assert storage_plan(settings).backend == local(str(tmp_path / "out"), "storage.local.storage_dir")


def test_a_proxy_of_chrome_takes_over_from_denied_networks() -> None:
    said = "is not used: pages are reached through chrome_flags' proxy-server, which has to deny them itself"
    for name in ("proxy-server", "--proxy-server"):
        settings = load(body=f"chrome_flags: {{{name}: 'http://proxy:3128'}}", environ={}).settings
        assert [str(finding) for finding in check(settings)] == [f"warning: deny_networks: {said}"]
    assert check(load(body="chrome_flags: {proxy-server: false}", environ={}).settings) == []


def test_the_source_of_a_configuration(tmp_path: Path) -> None:
    file, named = tmp_path / "a.yaml", tmp_path / "b.yaml"
    file.write_text("port: 1001")
    named.write_text("port: 1002")
    environ = {"EGRESS_CONFIG_FILE": str(file)}
    assert load(environ={}).settings == Settings()
    assert load(environ=environ).settings.port == 1001
    assert load(environ={**environ, "EGRESS_CONFIG_BODY": "port: 1003"}).settings.port == 1003
    assert load(str(named), environ={**environ, "EGRESS_CONFIG_BODY": "port: 1003"}).settings.port == 1002
    assert load(str(named), "port: 1004", environ).settings.port == 1004
    with pytest.raises(EgressError, match="cannot be read: No such file"):
        load(str(tmp_path / "none"), environ={})


def test_the_environment_fills_what_is_open(tmp_path: Path) -> None:
    credentials = tmp_path / "gcp.json"
    credentials.write_text("{}")
    environ = {
        "LIVEKIT_API_KEY": "k",
        "LIVEKIT_API_SECRET": "s",
        "LIVEKIT_URL": "wss://fallback",
        "LIVEKIT_KEYS": "a: b\nc: d",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "aws",
        "AWS_SESSION_TOKEN": "token",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AZURE_STORAGE_ACCOUNT": "account",
        "AZURE_STORAGE_KEY": "azure",
        "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
    }
    settings = load(body="storage: {s3: {bucket: b}}\nbackup: {gcp: {bucket: b}}", environ=environ).settings
    assert (settings.api_key, settings.api_secret.reveal(), settings.ws_url) == ("k", "s", "wss://fallback")
    assert {key: secret.reveal() for key, secret in settings.all_keys.items()} == {
        "k": "s",
        "a": "b",
        "c": "d",
    }
    chosen = storage_plan(settings)
    assert chosen is not None
    assert chosen.backend == storages.S3Storage("b", "AKIA", "aws", "token", region="eu-west-1")
    assert chosen.backup == storages.GCPStorage("b", "{}")
    azure = storage_plan(load(body="storage: {azure: {container_name: c}}", environ=environ).settings)
    assert azure is not None
    assert azure.backend == storages.AzureStorage("c", "account", "azure")
    own = load(
        body="storage: {s3: {bucket: b, access_key: x, secret: y}}", environ=environ
    ).settings.storage.s3
    assert own is not None
    assert (own.access_key, own.session_token) == ("x", "")
    urls = {"LIVEKIT_URL": "wss://fallback", "LIVEKIT_WS_URL": "wss://first"}
    assert load(environ=urls).settings.ws_url == "wss://first"


def test_keys_of_rooms_by_their_names(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("of the board\n")
    body = f"""
room_keys:
  - rooms: ["board-*", "annual"]
    key_file: {file}
  - rooms: ["*"]
    key: for all
  - rooms: clinic
    key_env: CLINIC
    derivation: hkdf
    index: 15
"""
    settings = load(body=body, environ={"CLINIC": "AAECAw=="}).settings
    assert "for all" not in repr(settings) and "of the board" not in repr(settings)
    found = keys_of(settings)
    common = RoomKey(0, b"for all")
    assert found("board-7") == found("annual") == (RoomKey(0, b"of the board"),)
    assert found("Board-7") == (common,)
    assert found("clinic") == (common, RoomKey(15, bytes(range(4)), KeyDerivation.HKDF))
    assert keys_of(Settings())("board-7") == ()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{key: hidden}", "room_keys[0].rooms: missing"),
        ("{rooms: a}", "room_keys[0]: needs key, key_file or key_env"),
        ("{rooms: a, key_env: GONE}", "room_keys[0]: the variable GONE holds no key"),
        ("{rooms: a, key_file: /nowhere}", "room_keys: /nowhere cannot be read: No such file or directory"),
        ("{rooms: a, key_file: /dev/null}", "room_keys[0]: /dev/null holds no key"),
        ("{rooms: a, key: hidden, index: 16}", "room_keys[0].index: 16 is not an index"),
        (
            "{rooms: a, key: hidden!, derivation: hkdf}",
            "room_keys[0].key: the text there (a secret, not shown)",
        ),
        ("{rooms: a, key: [hidden]}", "room_keys[0].key: a list is not a single value"),
    ],
)
def test_a_key_of_a_room_that_cannot_be(entry: str, message: str) -> None:
    with pytest.raises(EgressError) as raised:
        load(body=f"room_keys: [{entry}]", environ={})
    assert message in raised.value.message and "hidden" not in raised.value.message


def test_keys_of_participants(tmp_path: Path) -> None:
    body = """
room_keys:
  - {rooms: a, key: shared}
  - {rooms: a, key: hers, identities: ["ann", "anna-*"]}
  - {rooms: a, key: another}
"""
    found = keys_of(load(body=body, environ={}).settings)
    assert found("a") == (RoomKey(0, b"shared"), RoomKey(0, b"hers", identities=("ann", "anna-*")))


def test_key_services() -> None:
    body = """
api_key: key
api_secret: 0123456789
keys: {other: a-secret-of-at-least-32-characters}
key_services:
  - {rooms: "a-*", url: "https://keys.example.com/v1?token=t"}
  - {rooms: "*", url: "http://localhost:9000/", api_key: other, timeout: 500ms}
"""
    settings = load(body=body, environ={}).settings
    services = key_services(settings, lambda _: None)
    assert services.serves("a-1") and services.serves("b") and not services.serves("")
    assert services.addresses == (
        KeyServiceAddress(("a-*",), "https://keys.example.com/v1?token=t", "key", 3.0),
        KeyServiceAddress(("*",), "http://localhost:9000/", "other", 0.5),
    )
    assert not key_services(Settings(), lambda _: None).serves("a-1")
    assert job_keys(Settings(), services)("a-1").ask is not None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{url: 'https://k'}", "key_services[0].rooms: missing"),
        ("{rooms: a}", "key_services[0].url: missing"),
        ("{rooms: a, url: 'http://k/hidden-path-of-a-url'}", 'key_services[0].url: "http://k/'),
        ("{rooms: a, url: 'ftp://localhost'}", "write https://HOST"),
        ("{rooms: a, url: 'https://'}", "write https://HOST"),
        ("{rooms: a, url: 'https://h:port/'}", "write https://HOST"),
        ("{rooms: a, url: 'http://127.0.0.1.example.com'}", "write https://HOST"),
        ("{rooms: a, url: 'https://k', api_key: other}", '"other" is not a known API key'),
        ("{rooms: a, url: 'https://k', timeout: 7s}", "key_services[0].timeout: 7 s is not above"),
        ("{rooms: a, url: 'https://k', timeout: 0}", "key_services[0].timeout: 0 s is not above"),
    ],
)
def test_a_key_service_that_cannot_be(entry: str, message: str) -> None:
    keys = "{api: a-secret-of-at-least-32-characters}"
    with pytest.raises(EgressError) as raised:
        load(body=f"keys: {keys}\nkey_services: [{entry}]", environ={})
    assert message in raised.value.message and "hidden-path" not in raised.value.message


def test_a_key_service_without_a_key_to_sign_with() -> None:
    with pytest.raises(EgressError, match="requests are signed with a key's secret"):
        load(body="key_services: [{rooms: a, url: 'https://k'}]", environ={})


def test_secrets_print_as_stars() -> None:
    secret = Secret("hunter2")
    assert [repr(secret), str(secret), f"{secret}", f"{[secret]}"] == ["***", "***", "***", "[***]"]
    assert (secret.reveal(), secret == "hunter2", secret.encode()) == ("hunter2", True, b"hunter2")
    assert type(secret.reveal()) is str
    assert "s3cret" not in repr(load(body=UPSTREAM, environ={}))


def test_check_lists_what_has_no_effect_and_what_was_unknown() -> None:
    loaded = load(body="latency: {pipeline_latency: 9s}\nio_workers: 9\nabc: 1\nkeys: {a: short}", environ={})
    findings = {finding.path: finding for finding in check(loaded.settings, loaded.warnings)}
    assert set(findings) == {"latency", "io_workers", "abc", "keys.a"}
    assert {finding.level for finding in findings.values()} == {Level.WARNING}
    assert "no effect" in findings["latency"].text
