"""A large file goes up in bounded memory."""

from pathlib import Path

from bench.upload import measure
from testkit.servers import S3Server

MIB = 1024 * 1024


def test_large_file_takes_little_memory(tmp_path: Path) -> None:
    with S3Server() as server:
        server.create_bucket("bench")
        result = measure(server.url, tmp_path, 512)
        head = server.client().head_object(Bucket="bench", Key="large")
        assert head["ContentLength"] == 512 * MIB
    assert result.growth_mib < 64
