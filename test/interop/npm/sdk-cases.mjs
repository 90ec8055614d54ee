/**
 * Runs in a folder where one version of `@phala/dstack-sdk` is installed. What a version does not have is skipped by
 * name. INTEROP_VECTORS names the values that the public test identity must give.
 */
import assert from 'node:assert/strict';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';

const imported = await import('@phala/dstack-sdk');
const { DstackClient, TappdClient } = imported.DstackClient ? imported : { ...imported.default, ...imported };
const helper = async (name) => await import(`@phala/dstack-sdk/${name}`).catch(() => undefined);
const [viem, solana] = [await helper('viem'), await helper('solana')];
const vectors = JSON.parse(readFileSync(process.env.INTEROP_VECTORS, 'utf8'));
const client = DstackClient && new DstackClient(process.env.DSTACK_SIMULATOR_ENDPOINT);
// Before DstackClient this variable named tappd.sock, and counted more than the argument.
if (!DstackClient) delete process.env.DSTACK_SIMULATOR_ENDPOINT;
const tappd = new TappdClient(process.env.TAPPD_SIMULATOR_ENDPOINT);

const hex = (bytes) => Buffer.from(bytes).toString('hex');
const bare = (text) => text.replace(/^0x/, '');
const has = (object, ...methods) => methods.every((method) => typeof object?.[method] === 'function');
/** 1.3.6.1.4.1.62397.1.9 in DER. */
const APP_INFO_OID = '060a2b0601040183e73d0109';
/** These clients count characters where Content-Length counts bytes. */
const isAscii = (text) => [...text].every((character) => character <= '~');
/** Options of a test that needs these methods. */
const needs = (object, ...methods) => ({
  skip: has(object, ...methods) ? false : `this version has no ${methods.join(', ')}`,
});
/** The first versions with `version()` are also the first that send an algorithm. */
const needsAlgorithms = needs(client, 'version');

describe('keys', () => {
  test('getKey gives 32 bytes and two signatures', needs(client, 'getKey'), async () => {
    const key = await client.getKey('/', 'test');
    assert.equal(key.key.length, 32);
    assert.ok(key.key instanceof Uint8Array);
    assert.deepEqual(
      key.signature_chain.map((link) => link.length),
      [65, 65],
    );
  });
  test('getKey gives the known keys and signatures', needs(client, 'getKey'), async () => {
    for (const { request, response } of vectors.get_key) {
      if (!isAscii(request.path) || (request.algorithm !== 'secp256k1' && !has(client, 'version'))) continue;
      const made = await client.getKey(request.path, request.purpose, request.algorithm);
      assert.equal(hex(made.key), response.key, JSON.stringify(request));
      assert.deepEqual(made.signature_chain.map(hex), response.signature_chain, JSON.stringify(request));
    }
  });
  test('getKey takes both names of secp256k1', needsAlgorithms, async () => {
    assert.equal(hex((await client.getKey('p', 'x', 'k256')).key), hex((await client.getKey('p', 'x')).key));
  });
  test('getKey gives an ed25519 key', needsAlgorithms, async () => {
    assert.equal((await client.getKey('p', 'x', 'ed25519')).key.length, 32);
  });
  for (const algorithm of ['rsa', 'secp256k1_prehashed']) {
    test(`getKey refuses ${algorithm}`, needsAlgorithms, async () => {
      await assert.rejects(client.getKey('p', 'x', algorithm));
    });
  }
  test('two paths have two keys', needs(client, 'getKey'), async () => {
    assert.notEqual(hex((await client.getKey('a')).key), hex((await client.getKey('b')).key));
  });
  test('TappdClient.getKey gives what DstackClient.getKey gives', needs(tappd, 'getKey'), async () => {
    assert.equal(hex((await tappd.getKey('/', 'test')).key), hex((await client.getKey('/', 'test')).key));
  });
  test('DstackClient.deriveKey is refused by the client', needs(client, 'deriveKey'), async () => {
    await assert.rejects(client.deriveKey('/'));
  });
  test('TappdClient.deriveKey gives the known key and a chain', async () => {
    for (const { path, key_pem } of vectors.tappd_derive_key) {
      const derived = await tappd.deriveKey(path, 'test');
      assert.equal(derived.key.trim(), key_pem.trim());
      assert.ok(derived.certificate_chain.length >= 2);
    }
  });
  test('TappdClient.deriveKey takes alternative names', async () => {
    const { certificate_chain: chain } = await tappd.deriveKey('/', 'test', ['localhost']);
    assert.equal(new X509Certificate(chain[0]).subjectAltName, 'DNS:localhost');
  });
  test('asUint8Array gives as many bytes as asked for', async () => {
    const derived = await tappd.deriveKey('/', 'test');
    assert.equal(derived.asUint8Array(32).length, 32);
    assert.ok(derived.asUint8Array().length > 32);
  });
});

describe('evidence', () => {
  const replays = (quote, tcb) =>
    assert.deepEqual(
      [0, 1, 2, 3].map((n) => quote.replayRtmrs()[n]),
      [tcb.rtmr0, tcb.rtmr1, tcb.rtmr2, tcb.rtmr3],
    );
  test('getQuote has the report data in its place', needs(client, 'getQuote'), async () => {
    const quote = await client.getQuote('test');
    const bytes = Buffer.from(bare(quote.quote), 'hex');
    assert.equal(hex(bytes.subarray(568, 632)), `74657374${'00'.repeat(60)}`);
    assert.ok(JSON.parse(quote.event_log).length > 0);
  });
  test('the log of getQuote replays to the registers', needs(client, 'getQuote', 'info'), async () => {
    replays(await client.getQuote('test'), (await client.info()).tcb_info);
  });
  test('getQuote takes text, Buffer and Uint8Array', needs(client, 'getQuote'), async () => {
    for (const data of ['some data', Buffer.from('some data'), new TextEncoder().encode('some data')])
      assert.ok((await client.getQuote(data)).quote.length > 0);
  });
  test('getQuote takes 64 bytes and refuses 65', needs(client, 'getQuote'), async () => {
    assert.ok((await client.getQuote('x'.repeat(64))).quote.length > 0);
    await assert.rejects(client.getQuote('x'.repeat(65)));
  });
  test('attest', needs(client, 'attest'), async () => {
    assert.ok(bare((await client.attest('nonce')).attestation).length > 1_000);
    await assert.rejects(client.attest('x'.repeat(65)));
  });
  test('DstackClient.tdxQuote knows raw alone', needs(client, 'tdxQuote'), async () => {
    assert.ok((await client.tdxQuote('test', 'raw')).quote.length > 0);
    await assert.rejects(client.tdxQuote('test', 'sha256'));
  });
  for (const algorithm of [undefined, 'sha256', 'sha384', 'sha512', 'keccak256', 'raw']) {
    test(`TappdClient.tdxQuote ${algorithm ?? 'with the default hash'}`, async () => {
      const quote = await tappd.tdxQuote('test data', algorithm);
      const reported = hex(Buffer.from(bare(quote.quote), 'hex').subarray(568, 632));
      const known = vectors.tdx_quote_report_data.report_data[algorithm ?? 'sha512'];
      if (algorithm === 'raw') assert.ok(reported.endsWith(hex(Buffer.from('test data'))));
      else if (known !== undefined) assert.equal(reported, known);
    });
  }
  test('emitEvent is answered', needs(client, 'emitEvent'), async () => {
    // This client does not look at the answer: recorded evidence takes no events, and it resolves.
    await client.emitEvent('an-event', 'payload');
  });
});

describe('certificates', () => {
  const made = async (options) => {
    const answer = await client.getTlsKey(options);
    return { ...answer, leaf: new X509Certificate(answer.certificate_chain[0]) };
  };
  test('getTlsKey: subject, names, usages', needs(client, 'getTlsKey'), async () => {
    const { leaf, key } = await made({
      subject: 'example.com',
      altNames: ['localhost', '127.0.0.1'],
      usageRaTls: true,
      usageServerAuth: true,
      usageClientAuth: true,
    });
    assert.match(key, /^-----BEGIN PRIVATE KEY-----/);
    assert.equal(leaf.subject, 'CN=example.com');
    assert.equal(leaf.subjectAltName, 'DNS:localhost, IP Address:127.0.0.1');
    assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
  });
  test('the key fits the certificate, the chain is signed', needs(client, 'getTlsKey'), async () => {
    const { leaf, key, certificate_chain: chain } = await made({ subject: 'x' });
    assert.ok(leaf.publicKey.equals(createPublicKey(key)));
    assert.ok(leaf.verify(new X509Certificate(chain.at(-1)).publicKey));
  });
  test('getTlsKey without options', needs(client, 'getTlsKey'), async () => {
    const { leaf } = await made();
    assert.equal(leaf.subjectAltName, undefined);
  });
  test('two calls give two keys', needs(client, 'getTlsKey'), async () => {
    assert.notEqual((await made({})).key, (await made({})).key);
  });
  test('getTlsKey with validity and app info', needsAlgorithms, async () => {
    const notAfter = Math.floor(Date.now() / 1000) + 3_600;
    const { leaf } = await made({ subject: 'x', notBefore: 1_700_000_000, notAfter, withAppInfo: true });
    assert.equal(Date.parse(leaf.validTo), notAfter * 1000);
    assert.ok(leaf.raw.includes(Buffer.from(APP_INFO_OID, 'hex')));
  });
});

describe('info', () => {
  test('DstackClient.info', needs(client, 'info'), async () => {
    const { tcb_info: tcb, ...info } = await client.info();
    assert.equal(info.app_id, vectors.info.app_id);
    assert.equal(info.instance_id, vectors.info.instance_id);
    for (const name of ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'])
      assert.match(tcb[name], /^[0-9a-f]{96}$/);
    for (const name of ['compose_hash', 'device_id']) assert.match(tcb[name], /^[0-9a-f]{64}$/);
    assert.ok(tcb.app_compose.length > 0 && tcb.event_log.length > 0);
    assert.match(info.app_cert, /BEGIN CERTIFICATE/);
  });
  test('TappdClient.info', needs(tappd, 'info'), async () => {
    const info = await tappd.info();
    assert.equal(info.app_id, vectors.info.app_id);
    assert.match(info.tcb_info.rtmr3, /^[0-9a-f]{96}$/);
  });
  test('isReachable', needs(tappd, 'isReachable'), async () => {
    assert.equal(await tappd.isReachable(), true);
  });
  // 0.5.5 asks dstack.sock for a method of tappd.sock, which no agent has there.
  test('DstackClient.isReachable', needsAlgorithms, async () => {
    assert.equal(await client.isReachable(), true);
  });
  test('version', needs(client, 'version'), async () => {
    assert.ok((await client.version()).version.length > 0);
  });
});

describe('signatures', () => {
  for (const { request, response } of vectors.sign) {
    const { algorithm, data } = request;
    test(
      `sign ${algorithm}: the known signature, verified, and not for other data`,
      needs(client, 'sign'),
      async () => {
        const bytes = Buffer.from(data, 'hex');
        const signed = await client.sign(algorithm, bytes);
        assert.equal(hex(signed.signature), response.signature);
        assert.equal(hex(signed.public_key), response.public_key);
        assert.equal(signed.signature_chain.length, 3);
        assert.equal(hex(signed.signature_chain[0]), response.signature);
        const verify = async (message) =>
          (await client.verify(algorithm, message, signed.signature, signed.public_key)).valid;
        assert.equal(await verify(bytes), true);
        bytes[0] ^= 1;
        assert.equal(await verify(bytes), false);
      },
    );
  }
  test('sign k256 is sign secp256k1', needs(client, 'sign'), async () => {
    const [a, b] = await Promise.all(['k256', 'secp256k1'].map((name) => client.sign(name, 'message')));
    assert.equal(hex(a.public_key), hex(b.public_key));
  });
  test('sign refuses rsa and digests of the wrong length', needs(client, 'sign'), async () => {
    await assert.rejects(client.sign('rsa', 'message'));
    await assert.rejects(client.sign('secp256k1_prehashed', Buffer.alloc(31)));
  });
});

describe('accounts', () => {
  // The first versions call the argument of these helpers the answer of deriveKey.
  const fromKeys = {
    skip: viem && solana && has(client, 'getKey') ? false : 'this version makes accounts of deriveKey',
  };
  test('an Ethereum account has the known address', fromKeys, async () => {
    const key = await client.getKey(vectors.accounts.path, vectors.accounts.purpose);
    assert.equal((viem.toViemAccountSecure ?? viem.toViemAccount)(key).address, vectors.accounts.ethereum);
    assert.equal(viem.toViemAccount(key).address, vectors.accounts.ethereum);
  });
  test('a Solana key pair has the known address', fromKeys, async () => {
    const key = await client.getKey(vectors.accounts.path, vectors.accounts.purpose);
    assert.equal(solana.toKeypair(key).publicKey.toBase58(), vectors.accounts.solana);
  });
  test('accounts of deriveKey', {
    skip: viem && solana ? false : 'this version has no helpers',
  }, async () => {
    const derived = await tappd.deriveKey('/', 'test');
    assert.match(viem.toViemAccount(derived).address, /^0x[0-9a-fA-F]{40}$/);
    assert.ok(solana.toKeypair(derived).publicKey.toBase58().length >= 32);
  });
});

describe('transport', () => {
  test('a hundred calls at the same time', async () => {
    const call = client ? () => client.getKey('x') : () => tappd.deriveKey('/', 'x');
    assert.equal((await Promise.all(Array.from({ length: 100 }, call))).length, 100);
  });
  test('a socket that does not exist is named', {
    skip: client ? false : 'this version waits for it',
  }, () => {
    assert.throws(() => new DstackClient('/nowhere/dstack.sock'), /nowhere/);
  });
});

describe('helpers', () => {
  const { getComposeHash, verifyEnvEncryptPublicKey, verifyEnvEncryptPublicKeyLegacy } = imported;
  test('getComposeHash', needs(imported, 'getComposeHash'), () => {
    for (const { name, normalize, compose, sha256 } of vectors.compose_hash) {
      if (!normalize && name === 'ref') assert.equal(getComposeHash(compose), sha256);
    }
  });
  test('verifyEnvEncryptPublicKey finds the signer', needs(imported, 'verifyEnvEncryptPublicKey'), () => {
    const { public_key, signature, app_id, recovered_signer } = vectors.verify_env_encrypt_public_key.legacy;
    const bytes = (text) => Buffer.from(text, 'hex');
    const verify = verifyEnvEncryptPublicKeyLegacy ?? verifyEnvEncryptPublicKey;
    assert.equal(verify(bytes(public_key), bytes(signature), app_id), recovered_signer);
  });
});
