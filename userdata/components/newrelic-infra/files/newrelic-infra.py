"""The New Relic agent takes every setting from a variable NRIA_<SETTING>."""

import json

SETTINGS = {
    "COLLECTOR_URL": r"https://[^\s]{1,512}",
    "LOG_LEVEL": r"error|warn|info|debug",
    "DISPLAY_NAME": r"[A-Za-z0-9._ -]{1,200}",
}


def configure(agent):
    agent.read()
    agent.environment({
        "NRIA_LICENSE_KEY": agent.secret_line(),
        # The host name of an instance may be anyone's, its id is its own.
        "NRIA_DISPLAY_NAME": agent.setting("DISPLAY_NAME") or agent.instance_id,
        "NRIA_OVERRIDE_HOSTNAME": agent.instance_id,
        "NRIA_CUSTOM_ATTRIBUTES": json.dumps({"instanceId": agent.instance_id, "region": agent.region}),
        "NRIA_COLLECTOR_URL": agent.setting("COLLECTOR_URL"),
        "NRIA_LOG_LEVEL": agent.setting("LOG_LEVEL"),
    })
    agent.forget()
