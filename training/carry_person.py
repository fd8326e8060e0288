"""Put an enrolled person into the base that they were enrolled into, as a difference of a few megabytes.

    doppelgan enroll frame.png -o out/person --consent "rendered person"
    python -m training.carry_person --base engines/demo --person out/person

The file ``person.npz`` and its entry in the manifest are written; `doppelgan demo` shows the person from then on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.bundle.personal import PERSON, pack_person
from doppelgan.runtime.host.files import sha256_of, write_whole
from doppelgan.runtime.manifest import MANIFEST, DataFile, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.carry_person", description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--person", type=Path, required=True)
    arguments = parser.parse_args()
    with open_bundle(arguments.base) as base, open_bundle(arguments.person) as person:
        enrollment = person.manifest.enrollment
        network = base.manifest.networks[base.manifest.generators["photo"]]
        if enrollment is None or enrollment.base_sha256 != network.sha256:
            parser.error(f"--person: {arguments.person} was not enrolled into {arguments.base}; enroll again")
        file = arguments.base / "person.npz"
        pack_person(base, person, file)
        files = {**base.manifest.files, PERSON: DataFile(file.name, sha256_of(file))}
        manifest = msgspec.structs.replace(base.manifest, files=files)
        write_whole(arguments.base / MANIFEST, write_manifest(manifest))
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, {enrollment.psnr_db[0]:.1f} -> {enrollment.psnr_db[1]:.1f} dB")


if __name__ == "__main__":
    main()
