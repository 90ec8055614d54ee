import type { Contracts } from './contracts.ts';
import type { Platform } from './start-platform.ts';

interface KmsSettings {
  readonly port: number;
  readonly rpcUrl: string;
  readonly contracts: Contracts;
  readonly platform: Platform;
  /** Root of simulated vTPMs of Google Cloud, PEM; without one no such machine is believed. */
  readonly vtpmRootPem?: string | undefined;
  /** More of kms.toml: whole tables that the text above it does not have. */
  readonly extraConfig?: string;
}

/** The KMS's compose file; its configuration is inside, so both are measured. */
export function kmsCompose(settings: KmsSettings): string {
  const { port, rpcUrl, contracts, platform, vtpmRootPem, extraConfig = '' } = settings;
  const hasVtpms = vtpmRootPem !== undefined;
  const config = `[rpc]
address = "127.0.0.1"
port = ${port}

[core]
cert_dir = "certs"
site_name = "demo (SIMULATED)"

[core.onboard]
enabled = true
address = "127.0.0.1"
port = ${port}

[core.auth_api]
type = "chain"

[core.auth_api.chain]
rpc_urls = ["${rpcUrl}"]
kms_contract = "${contracts.kms}"
chain_id = ${contracts.client.chain.id}

[core.attestation]
insecure_allow_external_trust_anchors = true
${hasVtpms ? 'insecure_skip_gcp_firmware_endorsement = true\n' : ''}
[core.attestation.urls]
pccs = "${platform.pccsUrl}"

[core.attestation.root_ca]
tdx = "simulated-root.pem"
${hasVtpms ? 'gcp_tpm = "simulated-vtpm-root.pem"\n' : ''}${extraConfig}`;
  const vtpm = hasVtpms && {
    target: '      - source: vtpm\n        target: simulated-vtpm-root.pem\n',
    content: `  vtpm:\n    content: |\n${indent(vtpmRootPem)}\n`,
  };
  return `services:
  kms:
    image: dstack-kms
    command: ["dstack-kms", "--config", "kms.toml"]
    restart: "no"
    ports:
      - "${port}:${port}"
    volumes:
      - /var/run/dstack.sock:/var/run/dstack.sock
    configs:
      - source: kms
        target: kms.toml
      - source: root
        target: simulated-root.pem
${vtpm ? vtpm.target : ''}configs:
  kms:
    content: |
${indent(config)}
  root:
    content: |
${indent(platform.rootPem)}
${vtpm ? vtpm.content : ''}`;
}

function indent(text: string): string {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => (line === '' ? '' : `      ${line.replaceAll('$', '$$$$')}`))
    .join('\n');
}
