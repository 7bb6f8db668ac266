# Prints what became of an instance's boot as one line of JSON.
import glob
import hashlib
import json
import os
import subprocess


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def parsed(path):
    try:
        return json.loads(read(path))
    except ValueError:
        return None


def run(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def digest(text):
    return hashlib.sha256(text.strip().encode()).hexdigest() if text.strip() else ""


# Of cloud-init's stages, which of them is under way, and when each began and ended.
status = (parsed("/run/cloud-init/status.json") or {}).get("v1", {})
stages = []
for name in ("init-local", "init", "modules-config", "modules-final"):
    stage = status.get(name) or {}
    if stage.get("start"):
        stages.append({
            "name": name,
            "seconds": round(stage["finished"] - stage["start"], 1) if stage.get("finished") else None,
            "errors": [str(e)[:500] for e in stage.get("errors") or []],
        })

keys = sorted(digest(read(path)) for path in glob.glob("/etc/ssh/ssh_host_*_key.pub"))
agents = {
    os.path.splitext(os.path.basename(path))[0]: parsed(path)
    for path in sorted(glob.glob("/run/ami-factory/agents/*.json"))
}
failed = [line.split()[0] for line in run("systemctl", "list-units", "--failed", "--plain", "--no-legend").splitlines()]
print(json.dumps({
    "bootId": read("/proc/sys/kernel/random/boot_id").strip(),
    "finished": os.path.exists("/run/cloud-init/result.json"),
    "jobs": len(run("systemctl", "list-jobs", "--no-legend").splitlines()),
    "stages": stages,
    "userData": parsed("/var/lib/ami-factory-userdata/result.json"),
    "boot": parsed("/run/ami-factory/boot.json"),
    "agents": agents,
    "failedUnits": {unit: run("journalctl", "--no-pager", "-o", "cat", "-n", "5", "-u", unit)[-800:] for unit in failed[:8]},
    "startup": run("systemd-analyze", "time").split("\n")[0],
    "machineId": digest(read("/etc/machine-id")),
    "hostKeys": keys,
}))
