"""Sound that is brought to a loudness while it is recorded, measured in the file that comes of it."""

import math
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from openegress.core.codecs import AudioCodec, Container
from openegress.core.plan import AudioEncoding, FileOutput
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.media.loudness_meter import LoudnessMeter
from openegress.media.mixer import BLOCK_SAMPLES
from openegress.media.pipeline import EncodePipeline
from openegress.output import Opening
from openegress.output.file.recorder import FileRecorder
from openegress.storage.uploader import Uploader
from testkit.probe import Sound, probe, sound
from testkit.spoken import RATE, spoken

LENGTH_S = 60.0
TARGET = -16.0


def fail(error: Exception) -> None:
    raise error


async def recorded(folder: Path, samples: NDArray[np.int16], lufs: float, codec: AudioCodec) -> Path:
    kbps = {AudioCodec.AAC: 128, AudioCodec.OPUS: 64}[codec]
    container = {AudioCodec.AAC: Container.MP4, AudioCodec.OPUS: Container.OGG}[codec]
    pipeline = EncodePipeline(
        None, AudioEncoding(codec, kbps, RATE), steady=False, on_error=fail, loudness_lufs=lufs
    )
    storage = StoragePlan(LocalStorage(str(folder)))
    name = f"x.{container.value}"
    recorder = FileRecorder(
        FileOutput(name, container, storage), 0, emit=lambda event: None, uploader=Uploader(storage)
    )
    recorder.open(Opening(pipeline.formats, 0, str(folder / "spool"), {}))
    pipeline.attach([recorder], [])
    pipeline.start()
    for start in range(0, len(samples), BLOCK_SAMPLES):
        block = samples[start : start + BLOCK_SAMPLES]
        pipeline.audio(block.tobytes(), start * S // RATE, RATE)
        if start % (50 * BLOCK_SAMPLES) == 0:
            await recorder.written()
    await pipeline.finish()
    await recorder.finish(0)
    return folder / name


def measured(path: Path) -> tuple[float, float]:
    """(integrated loudness in LUFS, true peak in dB of full scale), by FFmpeg's filter and its resampler."""
    meter, peak = LoudnessMeter(), 0.0
    finer = av.AudioResampler("fltp", "stereo", 4 * RATE)
    with av.open(str(path)) as container:
        plain = av.AudioResampler("s16", "stereo", RATE)
        for frame in container.decode(audio=0):
            for each in finer.resample(frame):
                peak = max(peak, float(np.abs(each.to_ndarray()).max()))
            for each in plain.resample(frame):
                meter.write(each.to_ndarray().tobytes())
    meter.close()
    return meter.lufs, 20 * math.log10(peak)


@pytest.mark.parametrize(
    ("level", "codec"),
    [(0.05, AudioCodec.AAC), (0.25, AudioCodec.AAC), (0.99, AudioCodec.AAC), (0.1, AudioCodec.OPUS)],
)
async def test_the_file_is_as_loud_as_is_asked_for(tmp_path: Path, level: float, codec: AudioCodec) -> None:
    said = spoken(LENGTH_S, level)
    lufs, true_peak_db = measured(await recorded(tmp_path, said.samples, TARGET, codec))
    assert lufs == pytest.approx(TARGET, abs=1)
    assert true_peak_db < -1


async def test_a_quiet_and_a_loud_voice_become_alike(tmp_path: Path) -> None:
    parts = [spoken(15, level, seed).samples for seed, level in enumerate((0.8, 0.25, 0.8, 0.25))]
    path = await recorded(tmp_path, np.concatenate(parts), TARGET, AudioCodec.AAC)
    assert measured(path)[0] == pytest.approx(TARGET, abs=1)
    heard = sound(path)
    # Each once it has been followed for some seconds.
    levels = [level_db(heard, begin + 9, begin + 15) for begin in (0, 15, 30, 45)]
    assert max(levels) - min(levels) < 4, levels


async def test_pauses_do_not_get_louder(tmp_path: Path) -> None:
    said = spoken(LENGTH_S, 0.1)
    heard = sound(await recorded(tmp_path, said.samples, TARGET, AudioCodec.AAC))
    assert len(said.pauses_s) > 3
    for begin, end in said.pauses_s:
        if begin > 5:
            early, late = level_db(heard, begin + 0.3, begin + 0.6), level_db(heard, end - 0.3, end)
            assert late - early < 1.5, (begin, end)


async def test_it_stays_in_step_and_whole(tmp_path: Path) -> None:
    """At 48 kHz, not a sample is put in or left out on the way."""
    clicks = np.zeros((10 * RATE, 2), np.int16)
    clicks[RATE // 2 :: RATE] = 8000
    (tmp_path / "plain").mkdir()
    paths = [
        await recorded(tmp_path / "plain", clicks, 0.0, AudioCodec.AAC),
        await recorded(tmp_path, clicks, TARGET, AudioCodec.AAC),
    ]
    for path in paths:
        facts = probe(path).audio
        assert facts is not None and facts.sample_rate == RATE and facts.contiguous
        assert facts.duration_s == pytest.approx(10, abs=0.05)
        places = [int(np.abs(between(sound(path), n, n + 1)).argmax()) for n in range(10)]
        assert places == [RATE // 2] * 10


def between(heard: Sound, begin_s: float, end_s: float) -> NDArray[np.float32]:
    """One channel."""
    begin, end = (round((at_s - heard.start_s) * heard.sample_rate) for at_s in (begin_s, end_s))
    return heard.samples[0, begin:end]


def level_db(heard: Sound, begin_s: float, end_s: float) -> float:
    return 20 * math.log10(float(np.sqrt(np.mean(np.square(between(heard, begin_s, end_s))))) + 1e-9)
