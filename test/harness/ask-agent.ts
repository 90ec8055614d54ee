/** A program for an enclave: asks the agent for all that it gives, and prints what came, but for the keys. */
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { request } from 'node:http';
import { DstackClient } from '@dstack-cloud/sdk';
import { DstackClient as PublishedClient } from '@phala/dstack-sdk';

/** What it prints, in lines of `part …`. */
export interface AgentSaid {
  readonly keyHash: string;
  readonly isSameKey: boolean;
  readonly certificates: readonly string[];
  readonly holdsKey: boolean;
  readonly attestation: string;
  readonly signedBy: string;
  readonly info: object;
  readonly publishedInfo: string;
  readonly quote: string;
  readonly event: string;
  readonly document: string;
}

const LINE = 1000;

async function ask(): Promise<AgentSaid> {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  const refusal = (call: Promise<unknown>): Promise<string> =>
    call.then(
      () => 'an answer',
      (error: Error) => error.message,
    );
  const client = new DstackClient();
  const key = (await client.getKey('wallet', 'test')).key;
  const published = new PublishedClient();
  const tls = await client.getTlsKey({
    subject: 'enclave.example',
    altNames: ['enclave.example'],
    usageRaTls: true,
    usageServerAuth: true,
  });
  return {
    keyHash: createHash('sha256').update(key).digest('hex'),
    isSameKey: hex((await published.getKey('wallet', 'test')).key) === hex(key),
    certificates: tls.certificate_chain,
    holdsKey: new X509Certificate(tls.certificate_chain[0]!).checkPrivateKey(createPrivateKey(tls.key)),
    attestation: (await client.attest('report')).attestation,
    signedBy: hex((await client.sign('secp256k1', 'message')).public_key),
    info: await client.info(),
    publishedInfo: (await published.info()).app_id,
    quote: await refusal(client.getQuote('report')),
    event: await refusal(client.emitEvent('mine', 'payload')),
    document: await documentOf('0102'),
  };
}

function documentOf(userData: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath: '/var/run/dstack.sock', path: `/GetAttestation?user_data=${userData}` },
      (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk: string) => {
          text += chunk;
        });
        answer.on('end', () => resolve((JSON.parse(text) as { document: string }).document));
      },
    );
    call.on('error', reject);
    call.end();
  });
}

process.once('SIGTERM', () => process.exit(0));
const text = JSON.stringify(await ask());
for (let at = 0; at < text.length; at += LINE) console.log(`part ${text.slice(at, at + LINE)}.`);
console.log('said all');
setInterval(() => undefined, 1000);
