/** Where the key service's configuration lies in its container. */
const FOLDER = '/etc/kms';
/** Port of the key service, before and after its keys exist. */
const KMS_PORT = 12_001;

export interface KmsTemplate {
  /** By digest, or an image ID. */
  readonly image: string;
  readonly rpcUrl: string;
  readonly kmsContract: string;
  readonly chainId: number | undefined;
  readonly pccsUrl: string;
  /** Roots of simulated hardware, PEM, by their names in `core.attestation.root_ca`. */
  readonly simulatedRoots: Readonly<Partial<Record<'tdx' | 'gcp_tpm', string>>>;
}

/** The compose file of a key service; its configuration is inside, so both are measured. */
export function kmsCompose(template: KmsTemplate): string {
  const roots = Object.entries(template.simulatedRoots);
  const files = [
    { name: 'kms', file: 'kms.toml', text: kmsToml(template) },
    ...roots.map(([name, pem]) => ({
      name: `root-${name.replace('_', '-')}`,
      file: rootFile(name),
      text: pem,
    })),
  ];
  return `services:
  kms:
    image: ${template.image}
    command: ["--config", "${FOLDER}/kms.toml"]
    restart: unless-stopped
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    ports: ["${KMS_PORT}:${KMS_PORT}"]
    volumes:
      - kms-data:/var/lib/dstack
      - /var/run/dstack.sock:/var/run/dstack.sock
    configs:
${files.map(({ name, file }) => `      - source: ${name}\n        target: ${FOLDER}/${file}\n`).join('')}configs:
${files.map(({ name, text }) => `  ${name}:\n    content: |\n${indented(text)}\n`).join('')}volumes:
  kms-data:
`;
}

function kmsToml(template: KmsTemplate): string {
  const { rpcUrl, kmsContract, chainId, pccsUrl, simulatedRoots } = template;
  const roots = Object.keys(simulatedRoots);
  const chain = chainId === undefined ? '' : `chain_id = ${chainId}\n`;
  const simulated =
    roots.length === 0
      ? ''
      : `
# SIMULATED hardware is believed: for tests alone.
[core.attestation]
insecure_allow_external_trust_anchors = true
${roots.includes('gcp_tpm') ? 'insecure_skip_gcp_firmware_endorsement = true\n' : ''}
[core.attestation.root_ca]
${roots.map((name) => `${name} = "${FOLDER}/${rootFile(name)}"\n`).join('')}`;
  const pccs = pccsUrl === '' ? '' : `\n[core.attestation.urls]\npccs = ${JSON.stringify(pccsUrl)}\n`;
  return `[rpc]
port = ${KMS_PORT}

[core]
cert_dir = "/var/lib/dstack/certs"

[core.onboard]
port = ${KMS_PORT}

[core.auth_api]
type = "chain"

[core.auth_api.chain]
# Whoever runs the only endpoint can lie: name three of different operators, and two of them must agree.
rpc_urls = [${JSON.stringify(rpcUrl)}]
kms_contract = "${kmsContract}"
${chain}${simulated}${pccs}`;
}

function rootFile(name: string): string {
  return `simulated-${name.replace('_', '-')}-root.pem`;
}

/** Docker Compose replaces variables in content, too. */
function indented(text: string): string {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => (line === '' ? '' : `      ${line.replaceAll('$', '$$$$')}`))
    .join('\n');
}
