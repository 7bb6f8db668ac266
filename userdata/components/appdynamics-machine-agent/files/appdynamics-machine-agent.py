"""The AppDynamics machine agent takes its settings from variables, which come
before its controller-info.xml."""

SETTINGS = {
    "CONTROLLER_HOST": r"[A-Za-z0-9.-]{1,253}",
    "CONTROLLER_PORT": r"[1-9][0-9]{0,4}",
    "ACCOUNT": r"[A-Za-z0-9_.-]{1,128}",
    "MACHINE_PATH": r"[A-Za-z0-9_.|-]{1,256}",
}


def configure(agent):
    # What is missing is told before the secret is read.
    settings = {
        "APPDYNAMICS_CONTROLLER_HOST_NAME": agent.need("CONTROLLER_HOST"),
        "APPDYNAMICS_CONTROLLER_PORT": agent.need("CONTROLLER_PORT"),
        "APPDYNAMICS_CONTROLLER_SSL_ENABLED": "true",
        "APPDYNAMICS_AGENT_ACCOUNT_NAME": agent.need("ACCOUNT"),
        "APPDYNAMICS_AGENT_UNIQUE_HOST_ID": agent.instance_id,
        "APPDYNAMICS_MACHINE_HIERARCHY_PATH": agent.setting("MACHINE_PATH"),
    }
    agent.read()
    agent.environment({**settings, "APPDYNAMICS_AGENT_ACCOUNT_ACCESS_KEY": agent.secret_line()})
    agent.forget()
