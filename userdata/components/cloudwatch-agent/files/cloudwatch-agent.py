"""The CloudWatch agent has no secret, but a configuration, which is read like
one. It takes its identity, the instance id, from the instance metadata itself."""

import json
import subprocess

SETTINGS = {
    "CONFIG_PARAMETER": r"[A-Za-z0-9/_.-]{1,1011}",
    "CONFIG_FILE": r"/[A-Za-z0-9/_.-]{1,1000}",
}

CONFIG = "/run/ami-factory/agents/cloudwatch-agent.config.json"
CTL = "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"


def configure(agent):
    file = agent.setting("CONFIG_FILE")
    if file:
        try:
            with open(file, encoding="utf-8") as source:
                text = source.read()
        except (OSError, UnicodeDecodeError) as problem:
            raise agent.problem(f"{file} cannot be read: {type(problem).__name__}") from None
    else:
        agent.run_reader(["--parameter", agent.asked.get("SSM_PARAMETER") or agent.need("CONFIG_PARAMETER")])
        with open(agent.secret_file, encoding="utf-8", errors="replace") as source:
            text = source.read()
        agent.forget()
    try:
        if not isinstance(json.loads(text), dict):
            raise ValueError
    except ValueError:
        raise agent.problem("the configuration is not a JSON object") from None
    agent.write(CONFIG, text)
    # Without -s: it would start the agent by itself and enable its unit.
    done = subprocess.run([CTL, "-a", "fetch-config", "-m", "ec2", "-c", "file:" + CONFIG],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise agent.problem(f"amazon-cloudwatch-agent-ctl does not take the configuration (exit code {done.returncode}); "
                            f"try: {CTL} -a fetch-config -m ec2 -c file:{CONFIG}")
    agent.environment({})
