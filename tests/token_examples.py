"""Examples of tokens by the name of their shape in ``configs/masking.yaml``.

Put together here so that scanners of repositories find no token in this file.
"""

from __future__ import annotations

A36, A40 = "aB3" * 12, "aB3/" * 10
TOKENS = {
    "github-token": ["gh" + kind + "_" + A36 for kind in "pousr"],
    "github-fine-grained-token": ["github_" + "pat_" + A36 + "_" + A36],
    "gitlab-token": [
        "gl" + kind + "-" + "aB3-_" * 4
        for kind in (
            "pat",
            "oas",
            "dt",
            "rt",
            "rtr",
            "cbt",
            "ptt",
            "ft",
            "imt",
            "agent",
            "soat",
            "wt",
            "ffct",
        )
    ],
    "gitlab-routable-token": ["gl" + "pat-" + "aB3" * 9 + ".01." + "0a1b2c3d4"],
    "gitlab-runner-registration": ["GR13" + "48941" + "aB3-_" * 4],
    "aws-access-key-id": [kind + "ABCD2345" * 2 for kind in ("AKIA", "ASIA", "ABIA", "ACCA")],
    "aws-bedrock-key": ["ABSK" + "aB3/" * 30],
    "slack-token": ["xox" + kind + "-123456789012-" + "aB3" * 6 for kind in "bparsoe"],
    "slack-rotated-token": ["xoxe." + "xoxp-1-" + "aB3" * 20],
    "slack-app-token": ["xapp" + "-1-A012-3456-" + "ab3" * 20],
    "stripe-key": ["sk_" + "live_" + "aB3" * 8, "rk_" + "test_" + "aB3" * 8],
    "stripe-webhook-secret": ["whsec_" + "aB3/" * 8],
    "google-api-key": ["AIza" + "aB3_-" * 7],
    "google-oauth-secret": ["GOCSPX" + "-" + "aB3_" * 7],
    "google-oauth-token": ["ya29." + "aB3_-" * 20],
    "npm-token": ["npm_" + A36],
    "pypi-token": ["pypi-" + "AgE" + "aB3_-" * 20],
    "crates-io-token": ["cio" + "aB3d" * 8],
    "rubygems-token": ["rubygems_" + "0a1b" * 12],
    "docker-token": ["dckr_" + "pat_" + "aB3_-" * 6],
    "jwt": ["eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "dozjgNryP4J3jVmNHl0w5N"],
    "jwe": ["eyJhbGciOiJkaXIifQ.." + "aB3_" * 4 + "." + "aB3_" * 8 + "." + "aB3_" * 4],
    "anthropic-key": ["sk-" + "ant-api03-" + "aB3_-" * 18],
    "openai-key": ["sk-" + kind + "-" + "aB3_-" * 20 for kind in ("proj", "svcacct", "admin")],
    "openai-legacy-key": ["sk-" + "aB3d5" * 4 + "T3Blbk" + "FJ" + "aB3d5" * 4],
    "groq-key": ["gsk_" + "aB3d" * 13],
    "azure-client-secret": ["8Q~" + "aB3_~.-" * 5],
    "google-refresh-token": ["1//0" + "aB3_-" * 12],
    "nuget-key": ["oy2" + "ab3" * 14 + "d"],
    "mailgun-key": ["key-" + "0a1b" * 8],
    "grafana-token": ["glsa_" + "aB3d" * 8 + "_0a1b2c3d"],
    "grafana-cloud-token": ["glc_" + "eyJ" + "aB3d" * 8],
    "new-relic-key": ["NRAK-" + "AB3" * 9],
    "postman-key": ["PMAK-" + "0a1b" * 6 + "-" + "0a" * 17],
    "doppler-token": ["dp.pt." + "aB3d" * 10, "dp.st.dev." + "aB3d" * 10],
    "planetscale-token": ["pscale_" + "tkn_" + "aB3_" * 8],
    "notion-token": ["ntn_" + "aB3d" * 11],
    "atlassian-token": ["ATATT3" + "aB3_" * 40],
    "bitbucket-app-password": ["ATBB" + "aB3d" * 8],
    "buildkite-token": ["bkua_" + "0a1b" * 10],
    "circleci-token": ["CCIPAT_" + "aB3d" * 6 + "_" + "0a1b" * 10],
    "heroku-key": ["HRKU-" + "aB3_" * 15],
    "fly-token": ["fm2_" + "aB3/" * 20],
    "tailscale-key": ["tskey-" + "auth-" + "aB3dE" * 3 + "-" + "aB3d" * 8],
    "sourcegraph-token": ["sgp_" + "0a1b" * 10, "sgp_" + "0a1b" * 4 + "_" + "0a1b" * 10],
    "hugging-face-token": ["hf_" + "aBcD" * 9],
    "digitalocean-token": ["dop_v1_" + "0a1b" * 16],
    "databricks-token": ["dapi" + "0a1b" * 8],
    "hashicorp-vault-token": ["hvs." + "aB3_" * 8],
    "sendgrid-key": ["SG." + "aB3_-" * 4 + "aB" + "." + "aB3_-" * 8 + "aB3"],
    "twilio-key": ["SK" + "0a1b" * 8],
    "shopify-token": ["shpat_" + "0a1B" * 8],
    "sentry-token": ["sntrys_" + "aB3_" * 12],
    "linear-key": ["lin_api_" + "aB3d" * 10],
    "age-secret-key": ["AGE-SECRET-KEY-1" + "Q2" * 29],
}
# What may stand right in front of a token, and ends like a word: escapes, colours, an underscore.
BEHIND = (
    "\x1b[32m", "\x1b[01;31m\x1b[K", "\\033[0m", "\\n", "\\r\\n", "\\t", "%3D", "%0a", "\\u0022",
    "\\x22", "\\042", "=3D", "TOKEN_", "&quot;", "é",
    "\x1b[?25h", "\x1b[1G", "\x1b[2J", "\x1b[1A", "\x1b(B", "\x1b8", "\\u001b[1G",
)  # fmt: skip
KEPT = {
    "aws-secret-access-key": [
        ("aws_secret_access_key = ", A40), ('"SecretAccessKey": "', A40), ("AWS_SECRET_KEY=", A40),
    ],
    "aws-session-token": [("aws_session_token=", A40 * 4), ('"SessionToken": "', A40 * 4)],
    "slack-webhook": [("https://hooks.slack.com/services/", "T0123/B0123/aB3aB3aB3aB3")],
    "npm-legacy-token": [("//registry.example/:_authToken=", "aB3-" * 9)],
    "terraform-cloud-token": [("aB3d5f7h9j1l3n", ".atlasv1." + "aB3_" * 16)],
    "azure-storage-key": [("AccountName=x;AccountKey=", "aB3/" * 21 + "aB==")],
    "azure-shared-access-key": [("SharedAccessKey=", "aB3/" * 10 + "aB==")],
    "azure-signature": [("https://x.blob.example/c?sv=1&sig=", "aB3%2F" * 8)],
    "telegram-bot-token": [("123456789:", "AA" + "aB3" * 11)],
    "discord-webhook": [("https://discord.com/api/webhooks/123456/", "aB3_-" * 12)],
}  # fmt: skip
