"""The Chef Infra or Cinc client: client.rb on tmpfs, registration by the
validation key, and from then on by a key that this node made itself."""

import os

SETTINGS = {
    "DISTRIBUTION": r"chef|cinc",
    "SERVER_URL": r"https://[A-Za-z0-9./:_-]{1,512}",
    "ORGANISATION": r"[a-z0-9][a-z0-9_-]{0,254}",
    "POLICY_NAME": r"[A-Za-z0-9_.:-]{1,255}",
    "POLICY_GROUP": r"[A-Za-z0-9_.:-]{1,255}",
    "VALIDATION_CLIENT": r"[A-Za-z0-9_-]{1,255}",
}

CONFIG = "/run/ami-factory/agents/chef.rb"


def configure(agent):
    distribution, organisation = agent.baked["settings"]["DISTRIBUTION"], agent.need("ORGANISATION")
    key, owner = f"/etc/{distribution}/client.pem", f"/etc/{distribution}/ami-factory-node"
    lines = {
        "chef_server_url": f"{agent.need('SERVER_URL').rstrip('/')}/organizations/{organisation}",
        "node_name": agent.instance_id,
        "client_key": key,
        "policy_name": agent.need("POLICY_NAME"),
        "policy_group": agent.need("POLICY_GROUP"),
    }
    # A key that came with a copy of another instance's disk is not this node's.
    if read(owner) != agent.instance_id:
        if os.path.lexists(key):
            os.unlink(key)
        agent.write(owner, agent.instance_id, 0o644)
    if not os.path.exists(key):
        agent.read()
        lines["validation_key"] = agent.secret_file
        lines["validation_client_name"] = agent.setting("VALIDATION_CLIENT") or f"{organisation}-validator"
    # What is quoted here cannot hold a quote: see SETTINGS.
    text = "".join(f'{name} "{value}"\n' for name, value in lines.items())
    if distribution == "chef":
        text += 'chef_license "accept"\n'
    agent.write(CONFIG, text + "ssl_verify_mode :verify_peer\nlog_location STDOUT\n")
    agent.environment({})


def started(agent):
    """Converges once. The timer is started whatever became of that: it tries again."""
    agent.start_unit("ami-factory-chef.timer")
    agent.start_unit("ami-factory-chef.service")


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def stopped(agent):
    agent.stop_unit("ami-factory-chef.timer")
