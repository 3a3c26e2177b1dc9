"""The virtual machine's pure parts: which kernel, which job, which command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dvipad.vmlab.guest_kernel import GuestKernel, newest
from dvipad.vmlab.job import ROOT
from dvipad.vmlab.machine import Job, elsewhere, file_server_command, job_script, qemu_command
from dvipad.vmlab.readme import commands

KERNEL = GuestKernel("6.1.0-56-cloud-amd64", Path("/k/vmlinuz"), Path("/k/lib/modules"))


def test_the_newest_stock_kernel_is_taken() -> None:
    names = [
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.1.0-48-cloud-amd64",
        "linux-image-6.1.0-56-cloud-amd64-dbg",
        "linux-image-6.1.0-57-amd64",
        "linux-image-6.12-cloud-amd64",
    ]
    assert newest(names) == "linux-image-6.1.0-48-cloud-amd64"
    assert newest(["new"]) is None


def test_a_job_says_how_it_ended(tmp_path: Path) -> None:
    job = Job(["sh", "-c", 'echo "$PWD $WORDS"; exit 7'], tmp_path, {"WORDS": "a 'b' $c"}, 1.0)
    script = "".join(f"{line}\n" for line in job_script(job).splitlines()[:-2])
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path} a 'b' $c\nvmlab: exit status 7\n"


def test_files_are_shared_read_only_and_processes_die_with_their_parent() -> None:
    command = file_server_command(Path("/t/files"), Path("/t/root"), [Path("/mnt/repo")])
    assert command[:3] == ["setpriv", "--pdeathsig", "KILL"]
    script = command[-1].splitlines()
    assert script[0] == "mount -o bind,ro / /t/root"
    assert script[1] == "mount -o bind,ro /mnt/repo /t/root/mnt/repo"
    assert script[2].startswith("exec /usr/lib/qemu/virtiofsd --socket-path=/t/files ")


def test_only_what_the_root_does_not_have_is_bound() -> None:
    assert elsewhere([Path("/usr"), Path("/proc"), Path("/proc")]) == [Path("/proc")]


def test_the_emulator_needs_no_kvm() -> None:
    command = qemu_command(KERNEL, Path("/t/initramfs"), Path("/t/files"), counted=False)
    assert command[command.index("-accel") + 1].startswith("tcg")
    assert command[command.index("-kernel") + 1] == "/k/vmlinuz"


def test_the_readme_makes_a_node_by_few_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    typed = {name: commands(readme, name) for name in ("vm1", "vm2", "vm3")}
    assert {name: len(each) for name, each in typed.items()} == {"vm1": 7, "vm2": 5, "vm3": 4}
    for name, each in typed.items():
        assert each[0].startswith("apt install ")
        assert each[1].startswith(f"cat >/etc/dvipad/node.yaml <<END\nnode: {name}\n")
        assert each[1].endswith("\nEND")
