#!/usr/bin/python3 -I
"""Waits at the end of a boot until the services that the image declares, and
those in containers that its user data enabled, are active and healthy, and says
on the console and in /run/ami-factory/boot.json whether they are. Ends with 1
when one is not, or when cloud-init failed.

Agents of vendors are told of as well. One that failed is off, as it is meant to
be without its secret; the boot is then degraded, and has not failed: an instance
does its work without.

AMI_FACTORY_BOOT_FILE, AMI_FACTORY_BOOT_RESULT, AMI_FACTORY_CONSOLE,
AMI_FACTORY_RUN and AMI_FACTORY_UNITS move what it reads and writes.
"""
import glob
import json
import os
import subprocess
import sys
import time

EXPECTED = os.environ.get("AMI_FACTORY_BOOT_FILE", "/etc/ami-factory/boot.json")
RESULT = os.environ.get("AMI_FACTORY_BOOT_RESULT", "/run/ami-factory/boot.json")
CONSOLE = os.environ.get("AMI_FACTORY_CONSOLE", "/dev/console")
RUN = os.environ.get("AMI_FACTORY_RUN", "/run")
UNITS = os.environ.get("AMI_FACTORY_UNITS", "/etc/systemd/system")
REASONS = f"{RUN}/ami-factory/services"


def run(argv, limit=20):
    """Returns exit code and output of a command; one that hangs has failed."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit
        )
        return done.returncode, done.stdout.decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        return 124, f"no answer in {limit} seconds"
    except OSError as error:
        return 127, str(error)


def properties(unit):
    code, text = run(["systemctl", "show", "--property=LoadState,ActiveState,SubState,Result,StatusText,NRestarts,Job", unit])
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line) if code == 0 else {"error": text}


def expected():
    """What the image declares, and the services in containers that are enabled:
    the image cannot know those of an instance's user data."""
    with open(EXPECTED, encoding="utf-8") as file:
        found = json.load(file)
    declared = {service["unit"] for service in found["services"]}
    enabled = {os.path.basename(link) for link in glob.glob(f"{UNITS}/*.wants/service@*.service")}
    found["services"] += [{"unit": unit, "health": ""} for unit in sorted(enabled - declared)]
    return found


def look(service):
    """Looks at a service once: (whether it is healthy, whether to wait, state, message)."""
    unit = service["unit"]
    p = properties(unit)
    state = f'{p.get("ActiveState", "unknown")} ({p.get("SubState", "unknown")})'
    if p.get("LoadState") != "loaded":
        return False, False, state, f'the unit is {p.get("LoadState", p.get("error", "unknown"))}'
    if p["ActiveState"] != "active":
        message = reason(unit) or p.get("StatusText") or f'result {p.get("Result", "unknown")}'
        return False, p["ActiveState"] != "failed", state, message
    if service["health"]:
        code, output = run(["sh", "-c", service["health"]])
        if code != 0:
            return False, True, state, f'its health command ended with {code}: {output[-500:]}'
    return True, False, state, p.get("StatusText", "")


def reason(unit):
    """What service-run says of a service in a container."""
    name = unit[len("service@"):-len(".service")] if unit.startswith("service@") else None
    try:
        with open(f"{REASONS}/{name}.reason", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def enabled_agents():
    """The agents of the image, by the units that decide at each boot whether to
    start them."""
    links = glob.glob(f"{UNITS}/*.wants/ami-factory-agent@*.service")
    return sorted({os.path.basename(link)[len("ami-factory-agent@"):-len(".service")] for link in links})


def look_at_agent(name):
    """Looks at an agent once: (whether to wait, state, reason). State and reason
    are what the agent's unit says, which knows no secret; nothing else of its
    file is taken over."""
    p = properties(f"ami-factory-agent@{name}.service")
    if p.get("ActiveState") in ("activating", "reloading") or p.get("Job", "0") not in ("", "0"):
        return True, "unknown", "its unit has not ended"
    try:
        with open(f"{RUN}/ami-factory/agents/{name}.json", encoding="utf-8") as file:
            said = json.load(file)
        state, reason, unit = str(said["state"]), str(said["reason"]), str(said["unit"])
    except (OSError, ValueError, KeyError, TypeError):
        # Its unit was ended before it could tell.
        return False, "failed", f'ami-factory-agent@{name}.service is {p.get("ActiveState", "unknown")}: result {p.get("Result", "unknown")}'
    if state == "started":
        p = properties(unit)
        if p.get("ActiveState") == "failed":
            state, reason = "failed", f'{unit} was started, and failed: result {p.get("Result", "unknown")}'
    return False, state, " ".join(reason.split())[:500]


def await_agents(until):
    """What became of each agent by a time of the monotonic clock."""
    found = {}
    waiting = enabled_agents()
    while waiting:
        left = []
        for name in waiting:
            again, state, reason = look_at_agent(name)
            found[name] = {"agent": name, "state": state, "reason": reason}
            if again:
                left.append(name)
        waiting = left
        if not waiting or time.monotonic() >= until:
            break
        time.sleep(1)
    return [found[name] for name in sorted(found)]


def cloud_init():
    try:
        with open(f"{RUN}/cloud-init/result.json", encoding="utf-8") as file:
            result = json.load(file)["v1"]
        return {"datasource": result.get("datasource"), "errors": result.get("errors", [])}
    except (OSError, ValueError, KeyError) as error:
        return {"datasource": None, "errors": [f"no result: {error}"]}


def say(text):
    print(text, flush=True)
    try:
        with open(CONSOLE, "w", encoding="utf-8") as file:
            file.write(f"ami-factory: boot: {text}\r\n")
    except OSError:
        pass  # not every machine has one


def write(report):
    os.makedirs(os.path.dirname(RESULT), exist_ok=True)
    with open(RESULT + ".new", "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
    os.chmod(RESULT + ".new", 0o644)
    os.replace(RESULT + ".new", RESULT)


def main():
    wanted = expected()
    begun = time.monotonic()
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        boot = file.read().strip()
    report = {"schema": "ami-factory/boot/1", "status": "waiting", "bootId": boot, "seconds": 0, "cloudInit": {}, "services": [], "agents": []}
    write(report)
    services = {s["unit"]: {"unit": s["unit"], "healthy": False, "state": "", "seconds": 0, "message": ""} for s in wanted["services"]}
    waiting = list(wanted["services"])
    while waiting:
        left = []
        for service in waiting:
            healthy, again, state, message = look(service)
            services[service["unit"]].update(
                healthy=healthy, state=state, message=message, seconds=round(time.monotonic() - begun, 1)
            )
            if again:
                left.append(service)
        waiting = left
        if waiting and time.monotonic() - begun >= wanted["wait"]:
            for service in waiting:
                entry = services[service["unit"]]
                entry["message"] = f'not healthy after {wanted["wait"]} seconds: {entry["message"]}'
            break
        if waiting:
            time.sleep(1)
    report["cloudInit"] = cloud_init()
    report["services"] = list(services.values())
    report["agents"] = await_agents(begun + wanted["wait"])
    report["seconds"] = round(time.monotonic() - begun, 1)
    problems = [f'{s["unit"]} is {s["state"]}: {s["message"]}' for s in report["services"] if not s["healthy"]]
    problems += [f"cloud-init: {e}" for e in report["cloudInit"]["errors"]]
    off = [f'agent {a["agent"]} is off: {a["reason"]}' for a in report["agents"] if a["state"] not in ("started", "not-configured")]
    report["status"] = "failed" if problems else "degraded" if off else "ok"
    write(report)
    for problem in problems:
        say(f"FAILED: {problem}")
    for reason in off:
        say(f"DEGRADED: {reason}")
    if not problems and not off:
        say(f'ok, {len(services)} services healthy after {report["seconds"]} s')
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
