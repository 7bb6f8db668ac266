"""What an instance needs to read a secret as its role: the instance metadata
service (version 2), and calls of Secrets Manager and Systems Manager signed
with signature version 4. Standard library only: cloud-init brings Python to
every family, and nothing else is certain to be there.

Nothing here prints or raises what a service answered, because that may hold the
secret: errors name the operation, the AWS error code and what to do.
"""

import base64
import datetime
import hashlib
import hmac
import http.client
import ipaddress
import json
import os
import re
import ssl
import time
import urllib.parse
import urllib.request

IMDS = "http://169.254.169.254"
LIMIT = 1 << 20  # bytes of an answer; a secret has at most 64 KiB

# Codes after which the same call may succeed: throttling, and what a clock that
# is not set yet causes.
AGAIN = re.compile(r"Throttl|TooManyRequests|RequestLimit|InternalS|ServiceUnavailable|InternalFailure|Expired|Skewed|InvalidSignature")


class Problem(Exception):
    """Something that is for the operator to read."""


class Passing(Problem):
    """A problem that may be over in a moment."""


def loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def private(host):
    """Whether plain http to a host stays on this machine or its hypervisor."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in ("localhost", "localcloud.internal")
    return address.is_loopback or address.is_link_local


def endpoint(url):
    """Splits the URL of an endpoint, refusing those that would show a secret."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise Problem("the endpoint is not a URL") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise Problem("the endpoint is not a URL such as https://host:port")
    if parts.scheme == "http" and not private(parts.hostname):
        raise Problem(f"the endpoint http://{parts.hostname} is refused: a secret goes by https only, "
                      "except to loopback, link-local addresses and localcloud.internal")
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


def proxy_of(host):
    """Returns host and port of the proxy that https to a host goes through, or
    None. What is on this machine or its hypervisor is never behind one."""
    url = urllib.request.getproxies_environment().get("https")
    if not url or private(host) or urllib.request.proxy_bypass_environment(host):
        return None
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else "http://" + url)
        port = parts.port or 80
    except ValueError:
        raise Problem("https_proxy is not a URL such as http://host:port") from None
    if parts.scheme != "http" or not parts.hostname or parts.username:
        raise Problem("https_proxy is not a URL such as http://host:port; a proxy that is itself spoken to by TLS "
                      "or that asks for a password is not supported")
    return parts.hostname, port


def request(scheme, host, port, method, path, headers, body, timeout):
    """Makes one request. It follows no redirect. https goes through the proxy of
    the environment, which sees the name of the host and nothing else; http, which
    stays on this machine, does not."""
    if scheme == "https":
        context = ssl.create_default_context()
        proxy = proxy_of(host)
        if proxy:
            connection = http.client.HTTPSConnection(*proxy, timeout=timeout, context=context)
            connection.set_tunnel(host, port or 443)
        else:
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read(LIMIT + 1)
    except ssl.SSLCertVerificationError as problem:
        raise Problem(f"the certificate of {host} is not trusted: {problem.verify_message}") from None
    except (OSError, http.client.HTTPException) as problem:
        through = f" through the proxy {proxy[0]}:{proxy[1]}" if scheme == "https" and proxy else ""
        raise Passing(f"{host} cannot be reached{through}: {type(problem).__name__}") from None
    finally:
        connection.close()
    if len(content) > LIMIT:
        raise Problem(f"{host} answered with more than {LIMIT} bytes")
    return answer.status, content


class Instance:
    """This instance, as its metadata service tells."""

    def __init__(self):
        base = os.environ.get("AMI_FACTORY_IMDS_URL", IMDS)
        parts = urllib.parse.urlsplit(base)
        if base != IMDS and not (parts.scheme == "http" and loopback(parts.hostname or "")):
            raise Problem("AMI_FACTORY_IMDS_URL may only name a loopback address")
        self.host, self.port, self.token = parts.hostname, parts.port, None

    def call(self, method, path, headers):
        return request("http", self.host, self.port, method, path, headers, None, 5)

    def get(self, path):
        """Returns the text of a path; None when there is none."""
        if self.token is None:
            status, content = self.call("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"})
            if status != 200:
                raise Passing(f"the instance metadata service gives no token (HTTP {status})")
            self.token = content.decode("ascii", "replace")
        status, content = self.call("GET", "/latest/" + path, {"X-aws-ec2-metadata-token": self.token})
        if status == 401:
            self.token = None
        if status == 404:
            return None
        if status != 200:
            raise Passing(f"the instance metadata service answers HTTP {status} for {path}")
        return content.decode("utf-8", "replace")

    def need(self, path):
        text = self.get(path)
        if not text:
            raise Passing(f"the instance metadata service has no {path}")
        return text.strip()

    def id(self):
        return self.need("meta-data/instance-id")

    def region(self):
        return self.need("meta-data/placement/region")

    def credentials(self):
        role = self.get("meta-data/iam/security-credentials/")
        if not role:
            raise Passing("the instance has no role: attach an instance profile")
        role = role.split()[0]
        try:
            answer = json.loads(self.need("meta-data/iam/security-credentials/" + urllib.parse.quote(role)))
            if answer.get("Code") != "Success":
                raise Passing(f"the role {role} gives no credentials: {code_of(answer.get('Code'))}")
            return answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"]
        except (ValueError, KeyError, AttributeError):
            raise Passing(f"the credentials of the role {role} cannot be read") from None


def code_of(text):
    """The error code in what a service called so, or what cannot be a secret."""
    code = str(text or "").rpartition("#")[2].partition(":")[0]
    return code if re.fullmatch(r"[A-Za-z][A-Za-z0-9.]{0,63}", code) else "an error without a code"


def signed(credentials, region, service, host, path, headers, body, now):
    """Returns the headers of a POST with those that sign it."""
    key, secret, token = credentials
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {**headers, "Host": host, "X-Amz-Date": stamp, "X-Amz-Security-Token": token}
    names = sorted(name.lower() for name in headers)
    values = {name.lower(): value.strip() for name, value in headers.items()}
    canonical = "\n".join(["POST", path, "", *(f"{name}:{values[name]}" for name in names), "", ";".join(names),
                           hashlib.sha256(body).hexdigest()])
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signing = ("AWS4" + secret).encode()
    for part in (stamp[:8], region, service, "aws4_request"):
        signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    return headers


def call(instance, service, target, arguments, url):
    """Calls an operation of a service with JSON protocol 1.1."""
    region = instance.region()
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    scheme, host, port, path = endpoint(url or f"https://{service}.{region}.{domain}")
    path += "/"
    name = host if port is None else f"{host}:{port}"
    body = json.dumps(arguments).encode()
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
    headers = signed(instance.credentials(), region, service, name, path, headers, body,
                     datetime.datetime.now(datetime.timezone.utc))
    status, content = request(scheme, host, port, "POST", path, headers, body, 10)
    operation = target.rpartition(".")[2]
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if status == 200 and isinstance(answer, dict):
        return answer
    code = code_of(answer.get("__type") or answer.get("code")) if isinstance(answer, dict) else "an answer that is no JSON"
    kind = Passing if status >= 500 or status == 429 or AGAIN.search(code) else Problem
    raise kind(f"{operation} ended with {code} (HTTP {status})")


def secret_value(instance, name, url):
    answer = call(instance, "secretsmanager", "secretsmanager.GetSecretValue", {"SecretId": name}, url)
    if isinstance(answer.get("SecretString"), str):
        return answer["SecretString"].encode()
    try:
        return base64.b64decode(answer["SecretBinary"], validate=True)
    except (KeyError, TypeError, ValueError):
        raise Problem("GetSecretValue answered without a value") from None


def parameter_value(instance, name, url):
    answer = call(instance, "ssm", "AmazonSSM.GetParameter", {"Name": name, "WithDecryption": True}, url)
    try:
        return answer["Parameter"]["Value"].encode()
    except (KeyError, TypeError, AttributeError):
        raise Problem("GetParameter answered without a value") from None


def patiently(limit, action):
    """Repeats an action that has a passing problem, for at most limit seconds."""
    end, pause = time.monotonic() + limit, 0.5
    while True:
        try:
            return action()
        except Passing as problem:
            if time.monotonic() + pause > end:
                raise Problem(f"{problem}; given up after {limit:g} s") from None
        time.sleep(pause)
        pause = min(pause * 2, 10)
