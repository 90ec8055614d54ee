import { createHash, X509Certificate } from 'node:crypto';
import { fromBinary } from '@bufbuild/protobuf';
import { GetTlsKeyResponseSchema } from '@dstack-cloud/prpc';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { certificateShape, recordedCertificateShape } from './test/certificate-shape.ts';
import { type FixtureAgent, startFixtureAgent } from './test/fixture-agent.ts';
import { type Answer, recordedCases, send } from './test/replay.ts';

/** Requests that ours refuses, with the reason. */
const REFUSED: Readonly<Record<string, string>> = {
  'guest.GetTlsKey.not-after-past': 'it would end (1970) before it begins (1975)',
  'guest.GetTlsKey.not-after-9999': 'no certificate outlives its CA (docs/protocol/ra-tls.md section 4.3)',
  'guest.GetTlsKey.subject-newline':
    'control characters in names are refused (docs/protocol/ra-tls.md section 4.3)',
};
/** `alt_names%5B0%5D`: the original does not decode keys; ours does, as docs/protocol/kms.md section 1.2 says. */
const DECODED_KEYS = 'guest.GetTlsKey.get-arr-enc';

describeWithFixtures('certificates recorded from the original', 'guest-original/expected.json', () => {
  let agent: FixtureAgent;
  beforeAll(async () => {
    agent = await startFixtureAgent();
  });
  afterAll(() => agent.stop());
  const cases = recordedCases(undefined).filter(({ compare }) => compare === 'certificate');
  it.each(cases.filter(({ id }) => !(id in REFUSED) && id !== DECODED_KEYS))('$id', async (one) => {
    const answer = await send(agent.sockets[one.listener], one.request);
    expect(answer.status, answer.body.toString()).toBe(200);
    const { key, chain } = read(answer);
    const shape = one.response_shape as { leaf: Record<string, unknown>; key_scalar_hex?: string } & Record<
      string,
      unknown
    >;
    const [leaf = '', ca = ''] = chain;
    expect(chain).toHaveLength(2);
    expect(createHash('sha256').update(ca).digest('hex')).toBe(shape['chain_1_sha256']);
    expect(key.trimEnd().split('\n')).toHaveLength(shape['key_pem_lines'] as number);
    const certificate = new X509Certificate(leaf);
    expect(certificate.verify(new X509Certificate(ca).publicKey)).toBe(true);
    expect(`CN=${/^CN=(.*)$/ms.exec(certificate.subject ?? 'CN=')?.[1] ?? ''}`.replaceAll('\\', '')).toBe(
      shape.leaf['subject'],
    );
    expect(certificateShape(leaf)).toEqual(recordedCertificateShape(shape.leaf));
    if (shape.key_scalar_hex)
      expect(Buffer.from(pemBody(key), 'base64').toString('hex')).toContain(shape.key_scalar_hex);
  });
  it.each(Object.entries(REFUSED))('%s is refused: %s', async (id) => {
    const one = cases.find((recorded) => recorded.id === id);
    if (one === undefined) throw new Error(`${id} is not recorded`);
    expect((await send(agent.sockets[one.listener], one.request)).status).toBe(400);
  });
  it.each(recordedCases(undefined).filter(({ compare }) => compare === 'crash'))(
    '$id ends no agent',
    async (one) => {
      expect((await send(agent.sockets[one.listener], one.request)).status).toBe(400);
    },
  );
});

function read(answer: Answer): { key: string; chain: string[] } {
  if (answer.headers['content-type'] === 'application/octet-stream') {
    const { key, certificateChain } = fromBinary(GetTlsKeyResponseSchema, answer.body);
    return { key, chain: certificateChain };
  }
  const { key, certificate_chain } = JSON.parse(answer.body.toString()) as {
    key: string;
    certificate_chain: string[];
  };
  return { key, chain: certificate_chain };
}

function pemBody(pem: string): string {
  return pem.replace(/-----[^-]+-----|\s/g, '');
}
