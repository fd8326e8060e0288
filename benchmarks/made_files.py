"""Small files of the kinds that people bring, made by the ffmpeg program, for `benchmarks.fidelity`.

Each is one line of options; what this ffmpeg cannot make is left out and named.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

PICTURES = "-f lavfi -i gradients=s=96x64:n=4:seed=3:speed=0.02:r=25:d={seconds}"
# No moment sounds like another, so that a shift shows.
SOUND = "-f lavfi -i aevalsrc=0.3*sin(2*PI*(200+400*t)*t):s=48000:d={seconds}"
X264 = "-c:v libx264 -preset ultrafast -qp 6 -pix_fmt yuv420p"
V, A = PICTURES.format(seconds=1.2), SOUND.format(seconds=1.2)
BASE = f"{V} {A} {X264} -c:a aac"
SUBTITLE = "1\n00:00:00,100 --> 00:00:00,900\nHello <i>you</i>\n\n"
CHAPTERS = (
    ";FFMETADATA1\ntitle=Ä film\ndate=2020\nlocation=+48.1+011.5/\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=One\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=500\nEND=1200\ntitle=Two\n"
)


def make_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Make all of them in ``folder``; their paths, and the names of those that this ffmpeg cannot make."""
    (folder / "words.srt").write_text(SUBTITLE, encoding="utf-8")
    (folder / "chapters.txt").write_text(CHAPTERS, encoding="utf-8")
    paths, missing = [], []
    for name, options in recipes():
        command = ["ffmpeg", "-y", "-v", "error", "-nostdin", *options.split(), name]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        path = folder / name
        if done.returncode or not path.is_file() or not path.stat().st_size:
            path.unlink(missing_ok=True)
            missing.append(name)
        elif not name.startswith("_"):
            paths.append(path)
    for name, parts in JOINED.items():
        if all((folder / part).is_file() for part in parts):
            (folder / name).write_bytes(b"".join((folder / part).read_bytes() for part in parts))
            paths.append(folder / name)
    return sorted(paths), missing


def recipes() -> Iterator[tuple[str, str]]:
    """(name, options of ffmpeg); names with an underscore are parts of others."""
    yield "base.mp4", BASE
    for kind in (times, geometry, formats, colors, sounds, tracks):
        yield from kind()


def times() -> Iterator[tuple[str, str]]:
    """Late, early, trimmed, fragmented, uneven."""
    copy = "-i base.mp4 -c copy"
    yield "plain.ts", copy
    yield "wraps.ts", f"{copy} -output_ts_offset 95443.0 -mpegts_copyts 1"
    yield "hls.m3u8", f"{copy} -hls_time 0.4 -hls_playlist_type vod"
    yield "late.mp4", f"{copy} -output_ts_offset 0.5"
    yield "later.mkv", f"{copy} -output_ts_offset 5"
    yield "early.mkv", "-itsoffset -3 -i base.mp4 -c copy"
    yield "pictures-late.mp4", "-itsoffset 0.41 -i base.mp4 -i base.mp4 -map 0:v -map 1:a -c copy"
    yield "sound-late.mp4", "-itsoffset 0.41 -i base.mp4 -i base.mp4 -map 1:v -map 0:a -c copy"
    yield "sound-early.mkv", "-itsoffset -0.41 -i base.mp4 -i base.mp4 -map 1:v -map 0:a -c copy"
    yield "trimmed.mp4", "-ss 0.5 -i base.mp4 -c copy"
    yield "trimmed.mov", "-ss 0.33 -i base.mp4 -c copy -avoid_negative_ts disabled"
    yield "negative-offsets.mp4", f"{V} {A} {X264} -bf 2 -c:a aac -movflags negative_cts_offsets"
    yield "no-edit-list.mp4", f"{V} {A} {X264} -bf 2 -c:a aac -use_editlist 0"
    yield "fragments.mp4", f"{copy} -movflags frag_keyframe+empty_moov"
    yield "dash.mp4", f"{copy} -movflags frag_keyframe+empty_moov+default_base_moof+dash"
    yield "uneven.mp4", f"{V} -vf select='not(mod(n,3))+gt(n,20)' -fps_mode vfr {X264}"
    yield "pause.mkv", f"{V} -vf setpts='N/25/TB+if(gt(N,20),7,0)' -fps_mode vfr {X264}"
    for rate in ("1/2", "24000/1001", "30000/1001", "60000/1001", "240"):
        name = rate.replace("/", "-")
        yield f"rate-{name}.mp4", f"{V} -vf fps={rate} {X264} -frames:v 20"
    for scale in (30, 1000, 1000000):
        yield f"units-{scale}.mp4", f"{V} -vf fps=30000/1001 -video_track_timescale {scale} {X264}"
    for rate, late in product(("25", "24000/1001", "30000/1001"), (0, 2)):
        name = f"_part-{rate.split('/')[0]}-{late}"
        yield f"{name}.mpg", f"{V} {A} -vf fps={rate} -c:v mpeg2video -q:v 2 -bf {late} -c:a mp2"
    for sound in ("ac3", "pcm_s16be"):
        yield f"_part-{sound}.vob", f"{V} {A} -c:v mpeg2video -q:v 2 -c:a {sound} -f vob"
    yield "_part.ts", f"{V} {A} {X264} -bf 3 -c:a aac"
    yield "_part-wide.ts", f"{PICTURES.format(seconds=0.5).replace('96x64', '128x80')} {X264}"
    yield "_part-deep.ts", f"{V} -c:v libx264 -qp 6 -pix_fmt yuv444p10le"
    yield "_part-silent.ts", f"{V} {X264}"


JOINED = {
    **{
        f"joined-{rate}-{late}.mpg": [f"_part-{rate}-{late}.mpg"] * 3
        for rate, late in product((25, 24000, 30000), (0, 2))
    },
    "joined-ac3.vob": ["_part-ac3.vob"] * 2,
    "joined-pcm.vob": ["_part-pcm_s16be.vob"] * 2,
    "joined.ts": ["_part.ts"] * 3,
    "joined-silent.ts": ["_part-silent.ts"] * 3,
    "size-changes.ts": ["_part-silent.ts", "_part-wide.ts"],
    "format-changes.ts": ["_part-silent.ts", "_part-deep.ts"],
}


def geometry() -> Iterator[tuple[str, str]]:
    """Turned, anamorphic, cropped, odd sizes."""
    for turn, suffix in product((90, 180, 270), ("mp4", "mkv")):
        yield f"turned-{turn}.{suffix}", f"-i base.mp4 -metadata:s:v rotate={turn} -c copy"
    for name, codec in (
        ("2.mp4", X264),
        ("2.mkv", X264),
        ("4-3.avi", "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"),
        ("4-3.mov", "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"),
        ("16-11.avi", "-c:v mpeg4 -q:v 2"),
        ("8-9.webm", "-c:v libvpx-vp9 -crf 10 -b:v 0"),
    ):
        yield f"aspect-{name}", f"{V} -vf setsar={name.split('.')[0].replace('-', '/')} {codec}"
    yield "odd.mp4", f"{V.replace('96x64', '97x65')} -c:v libx264 -qp 6 -pix_fmt yuv444p"
    yield "tall.mp4", f"{V.replace('96x64', '16x2000')} {X264} -frames:v 5"
    yield "two-pixels.mkv", f"{V.replace('96x64', '2x2')} -c:v ffv1 -frames:v 5"
    yield "cropped.mp4", f"{V} {X264} -bsf:v h264_metadata=crop_left=8:crop_right=4:crop_top=4"
    yield (
        "cropped-hevc.mp4",
        f"{V} -c:v libx265 -x265-params log-level=none -bsf:v hevc_metadata=crop_left=8:crop_top=4",
    )
    fields = V.replace("r=25", "r=50")
    yield (
        "upper-first.mp4",
        f"{fields} -vf interlace=scan=tff -c:v libx264 -qp 8 -flags +ilme+ildct -x264-params tff=1",
    )
    yield (
        "lower-first.mpg",
        f"{fields} -vf interlace=scan=bff -c:v mpeg2video -q:v 2 -flags +ilme+ildct -top 0",
    )
    yield "single.mp4", f"{V} {X264} -frames:v 1"


def formats() -> Iterator[tuple[str, str]]:
    """Codecs, containers and pixel formats."""
    deep = ("yuv420p10le", "yuv422p10le", "yuv444p10le", "gray10le")
    for form in ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "gray", *deep):
        yield f"h264-{form}.mp4", f"{V} -c:v libx264 -qp 4 -preset ultrafast -pix_fmt {form}"
    for form in ("yuv420p", "yuv420p10le", "yuv422p10le", "yuv420p12le", "gray12le", "gbrp"):
        hevc = "-c:v libx265 -x265-params log-level=none:qp=4 -preset ultrafast"
        yield f"hevc-{form}.mp4", f"{V} {hevc} -pix_fmt {form}"
    for form in ("yuva444p10le", "yuv422p10le"):
        yield f"prores-{form}.mov", f"{V} -c:v prores_ks -pix_fmt {form}"
    for form in ("yuv420p16le", "gray16le", "bgra"):
        yield f"ffv1-{form}.mkv", f"{V} -c:v ffv1 -pix_fmt {form}"
    raw = (
        "yuv410p yuv411p yuv440p uyvy422 yuyv422 nv12 gray16le rgb48le bgr0 rgba64le monob ya8 p010le xyz12le"
    )
    for form in f"{raw} gbrp16le gbrpf32le grayf32le rgb24 bgra pal8 rgb555le gray".split():
        yield f"raw-{form}.nut", f"{V} -c:v rawvideo -pix_fmt {form}"
    for form in ("rgb24", "bgra", "pal8", "rgb555le", "gray"):
        yield f"raw-{form}.avi", f"{V} -c:v rawvideo -pix_fmt {form}"
    for name, codec in (
        ("huffyuv.avi", "huffyuv"), ("utvideo.avi", "utvideo"), ("qtrle.mov", "qtrle"), ("png.mov", "png"),
        ("vp8.webm", "libvpx -b:v 1M"), ("vp9-alpha.webm", "libvpx-vp9 -pix_fmt yuva420p -b:v 1M"),
        ("aom.mp4", "libaom-av1 -cpu-used 8 -crf 20 -frames:v 8"), ("svt.mkv", "libsvtav1 -frames:v 8"),
        ("mpeg1.mpg", "mpeg1video -q:v 2"), ("wmv2.wmv", "wmv2 -q:v 2"), ("msmpeg4.avi", "msmpeg4v3 -q:v 2"),
        ("cinepak.avi", "cinepak -frames:v 8"), ("theora.ogv", "libtheora -q:v 8"),
        ("flashsv.flv", "flashsv"), ("snow.avi", "snow -strict -2"),
        ("mjpeg422.avi", "mjpeg -q:v 2 -pix_fmt yuvj422p"),
        ("mjpeg444.mov", "mjpeg -q:v 2 -pix_fmt yuvj444p"), ("gif.gif", "gif"),
        ("dnxhr.mov", "dnxhd -profile:v dnxhr_hq -vf scale=256:128"), ("h263.3gp", "h263 -vf scale=176:144"),
    ):  # fmt: skip
        yield name, f"{V} -c:v {codec}"
    yield "animated.apng", f"{V} -frames:v 8 -plays 0"
    yield "plain.flv", f"{V} {A} -c:v flv -q:v 2 -c:a libmp3lame -ar 44100"
    yield "bare.h264", f"{V} {X264}"


def colors() -> Iterator[tuple[str, str]]:
    """Matrix, transfer, primaries; range."""
    for matrix, transfer, primaries in (
        ("smpte170m", "smpte170m", "smpte170m"), ("bt709", "bt709", "bt709"),
        ("bt2020nc", "bt2020-10", "bt2020"), ("smpte240m", "smpte240m", "smpte240m"),
        ("bt709", "iec61966-2-1", "bt709"), ("fcc", "gamma22", "bt470m"), ("bt709", "linear", "bt709"),
        ("ycgco", "bt709", "bt709"), ("bt709", "bt709", "smpte432"),
        ("bt2020nc", "arib-std-b67", "bt2020"), ("bt2020nc", "smpte2084", "bt2020"),
    ):  # fmt: skip
        tags = f"-colorspace {matrix} -color_trc {transfer} -color_primaries {primaries}"
        yield f"tagged-{matrix}-{transfer}-{primaries}.mp4", f"{V} {X264} {tags}"
    full = "-vf scale=in_range=tv:out_range=pc -color_range pc"
    yield "full-range.mp4", f"{V} {full} -c:v libx264 -qp 4 -pix_fmt yuv420p"


def sounds() -> Iterator[tuple[str, str]]:
    """Codecs, layouts, rates, lengths."""
    for layout, (codec, suffix) in product(
        ("mono", "stereo", "2.1", "quad", "5.0", "5.1", "6.1", "7.1"),
        (("aac", "mp4"), ("pcm_s16le", "mkv"), ("flac", "mkv")),
    ):
        yield (
            f"{codec}-{layout}.{suffix}",
            f"{V} {A} {X264} -af aformat=channel_layouts={layout} -c:a {codec}",
        )
    pcm = "pcm_u8 pcm_s16le pcm_s24le pcm_s32le pcm_f32le pcm_f64le pcm_mulaw pcm_alaw adpcm_ms adpcm_ima_wav"
    for codec in f"{pcm} mp2 libmp3lame ac3 wmav2".split():
        yield f"{codec}.avi", f"{V} {A} -c:v mpeg4 -q:v 2 -ar 44100 -c:a {codec}"
    big = "pcm_s16be pcm_s24be pcm_s32be pcm_f32be"
    for codec in f"{big} alac adpcm_ima_qt pcm_u8 ac3 eac3".split():
        yield f"{codec}.mov", f"{V} {A} {X264} -ac 2 -c:a {codec}"
    lossless = "truehd tta wavpack pcm_f64le"
    for codec in f"{lossless} libopus libvorbis ac3 eac3 dca mp2 libmp3lame".split():
        yield f"{codec}.mkv", f"{V} {A} {X264} -ac 2 -strict -2 -c:a {codec}"
    yield "wmav2.wmv", f"{V} {A} -c:v wmv2 -q:v 2 -c:a wmav2"
    for rate in (8000, 11025, 22050, 32000, 44100, 96000):
        yield f"flac-{rate}.mkv", f"{V} {A} {X264} -ar {rate} -c:a flac"
    for seconds in (0.3, 6):
        yield f"sound-of-{seconds}-s.mp4", f"{V} {SOUND.format(seconds=seconds)} {X264} -c:a aac"


def tracks() -> Iterator[tuple[str, str]]:
    """Several of a kind, covers, subtitles, chapters, data."""
    yield "_cover.jpg", f"{V} -frames:v 1"
    yield "_cover.png", f"{V} -frames:v 1"
    three = "-map 0 -map 1 -map 1 -map 1 -c:a:0 aac -c:a:1 ac3 -c:a:2 libopus"
    yield (
        "three-sounds.mkv",
        f"{V} {A} {X264} {three} -metadata:s:a:1 language=deu -disposition:a:0 0 -disposition:a:1 default",
    )
    two = f"{V} {V.replace('96x64', '160x120')} {A} {X264} -map 0 -map 1 -map 2"
    yield "two-videos.mp4", two
    yield "two-videos.mkv", f"{two} -disposition:v:0 default -disposition:v:1 0"
    cover = "-map 0 -map 1 -c copy"
    yield "cover-last.mp4", f"-i base.mp4 -i _cover.png {cover} -disposition:v:1 attached_pic"
    yield "cover-first.mp4", f"-i _cover.jpg -i base.mp4 {cover} -disposition:v:0 attached_pic"
    yield "attached.mkv", "-i base.mp4 -attach _cover.jpg -metadata:s:t mimetype=image/jpeg -c copy"
    yield "timecode.mov", "-i base.mp4 -timecode 01:00:00:00 -c copy"
    for codec, suffix in (("mov_text", "mp4"), ("srt", "mkv"), ("ass", "mkv"), ("webvtt", "mkv")):
        yield f"{codec}.{suffix}", f"-i base.mp4 -i words.srt -map 0 -map 1 -c copy -c:s {codec}"
    for suffix in ("mp4", "mkv"):
        chapters = "-i base.mp4 -i chapters.txt -map 0 -map_metadata 1 -map_chapters 1 -c copy"
        yield f"chapters.{suffix}", chapters
