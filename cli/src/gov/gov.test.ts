import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type Anvil, buildContracts, startAnvil } from '@dstack-cloud/contracts';
import { readProposal, writeProposal } from '@dstack-cloud/governance';
import type { Address, Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Outcome, Sandbox } from '../testing.ts';

const hash = (digits: string): string => `0x${digits.repeat(64 / digits.length)}`;
const DELAY = 3_600;

let anvil: Anvil;
let box: Sandbox;
const account = (index: number): string => anvil.accounts[index]!.address;
const [DEPLOYER, A, B, C, NEW, GUARDIAN, STRANGER] = [0, 1, 2, 3, 4, 5, 6] as const;

async function rpc(method: string, params: unknown[] = []): Promise<unknown> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  const headers = { 'content-type': 'application/json' };
  return (
    (await (await fetch(anvil.rpcUrl, { method: 'POST', headers, body })).json()) as { result: unknown }
  ).result;
}
async function pass(seconds: number): Promise<void> {
  await rpc('evm_increaseTime', [seconds]);
  await rpc('evm_mine');
}

type Answer = { readonly file: string; readonly operation: string; readonly [name: string]: unknown };

/** One command with the key of one account, in the environment. */
async function gov(index: number, ...argv: string[]): Promise<Outcome> {
  box.env = { RPC_URL: anvil.rpcUrl, PRIVATE_KEY: anvil.accounts[index]!.privateKey };
  return await box.run('gov', ...argv, '--network', 'test', '--yes');
}
async function ok(index: number, ...argv: string[]): Promise<Answer> {
  const { code, stdout, stderr } = await gov(index, ...argv, '--json');
  expect(code, `${argv.join(' ')}\n${stdout}\n${stderr}`).toBe(0);
  return JSON.parse(stdout);
}
async function refused(index: number, ...argv: string[]): Promise<string> {
  const { code, stderr, stdout } = await gov(index, ...argv);
  expect(code, stdout).not.toBe(0);
  return stderr;
}

beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  box = new Sandbox();
}, 240_000);
afterAll(async () => {
  await anvil?.stop();
  box?.remove();
});

describe('gov', () => {
  let image = '';
  let operation = '';
  test('deploy: model C, and the deployer keeps no power', async () => {
    const signers = [A, B, C].flatMap((one) => ['--signer', account(one)]);
    const plan = ['deploy', '--model', 'C', ...signers, '--threshold', '2', '--delay', String(DELAY)];
    const dry = await ok(DEPLOYER, ...plan, '--guardian', account(GUARDIAN), '--dry-run');
    expect(dry).toMatchObject({ deployed: false });
    const deployed = await ok(DEPLOYER, ...plan, '--guardian', account(GUARDIAN));
    expect(deployed).toMatchObject({ deployed: true, complete: true, model: 'C' });
    expect(deployed['owner']).toBe(deployed['timelock']);
    expect(await refused(DEPLOYER, ...plan, '--guardian', account(GUARDIAN))).toContain('is deployed');
  }, 120_000);

  test('status says who may do what and when it takes effect', async () => {
    const { stdout } = await gov(STRANGER, 'status');
    expect(stdout).toContain('2 of 3 signers of Safe');
    expect(stdout).toContain('takes effect 1 hour after it is scheduled');
    expect(stdout).toContain(`revoke: guardian ${account(GUARDIAN)}; takes effect at once`);
    expect(stdout).toContain('Nothing is scheduled');
  });

  test('health: no row is critical', async () => {
    const { code, stdout, stderr } = await gov(STRANGER, 'health');
    expect(stdout, stderr).not.toContain('critical');
    expect(code, stdout).toBe(0);
    expect(stdout).toContain('its code is dstack-kms-3');
  });

  test('propose, approve, submit; early execution is refused; after the delay it takes effect', async () => {
    image = hash('4');
    const proposed = await ok(A, 'propose', 'kms:add-image', image);
    const { file } = proposed;
    operation = proposed.operation;
    expect(proposed['effect']).toEqual([`allow OS image ${image}, on DstackKms`]);
    expect(await refused(A, 'submit', file)).toMatch(/1 of 2 signatures are there/);
    expect(await refused(STRANGER, 'approve', file)).toContain('does not sign for Safe');
    expect(await ok(A, 'approve', file)).toMatchObject({ signatures: 1 });
    expect(await ok(B, 'approve', file)).toMatchObject({ signatures: 2 });
    const scheduled = await ok(STRANGER, 'schedule', file);
    expect(scheduled).toMatchObject({ sent: true, operation });
    expect(await refused(A, 'submit', file)).toContain('has used nonce 0 already');
    const early = await refused(A, 'execute', operation);
    expect(early).toContain(`The delay of operation ${operation} is not over`);
    expect(early).toMatch(/Next: {5}Wait /);
    await pass(DELAY);
    const execution = await ok(A, 'execute', operation);
    await ok(C, 'approve', execution.file);
    expect(await ok(C, 'submit', execution.file)).toMatchObject({ sent: true });
    expect(await refused(A, 'execute', operation)).toContain('is executed already');
  }, 60_000);

  test('what is allowed already is not proposed, unless that is wanted; in a batch it is named', async () => {
    const add = ['propose', 'kms:add-image', image];
    const refusal = await refused(A, ...add);
    expect(refusal).toContain(`this would change nothing: allow OS image ${image}, on DstackKms`);
    expect(refusal).toContain('Pass --again');
    expect((await gov(A, ...add, '--again', '--dry-run')).code).toBe(0);
    const { code, stderr } = await gov(A, ...add, '+', 'kms:add', hash('5'), '--dry-run');
    expect([code, stderr]).toEqual([0, expect.stringContaining(`allow OS image ${image}`)]);
    expect(stderr).not.toContain(hash('5'));
    const { stderr: renewed } = await gov(
      A,
      'propose',
      'kms:remove-image',
      image,
      '+',
      ...add.slice(1),
      '--dry-run',
    );
    expect(renewed).not.toContain('In force already');
  });

  test('files of strangers neither keep anybody from a revocation nor hide signatures', async () => {
    const folder = mkdtempSync(box.path('shared-'));
    const there = ['-C', folder, '--governance', box.path('governance.json')];
    const what = ['emergency-revoke', 'image', image, ...there];
    const planted = await ok(STRANGER, ...what, '-o', 'proposal-0-0.json');
    const { effect, ...proposal } = JSON.parse(readFileSync(planted.file, 'utf8'));
    const made = readProposal(JSON.stringify(proposal), planted.file);
    const forged = Array.from(
      { length: 100 },
      (_, n): Hex => `0x${n.toString(16).padStart(2, '0').repeat(64)}1b`,
    );
    for (let n = 0; n < 100; n += 1) {
      const tx = { ...made.tx, nonce: made.tx.nonce + BigInt(n) };
      const text = writeProposal({ ...made, tx, signatures: forged }, effect);
      writeFileSync(join(folder, `proposal-0-${n}.json`), text);
    }
    const { code, stdout, stderr } = await gov(A, ...what, '-o', 'ours.json', '--json');
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('proposal-0-0.json proposes the same, and nobody has signed it');
    const ours = JSON.parse(stdout);
    expect(ours).toMatchObject({ immediate: false, signed: true, nonce: Number(made.tx.nonce) });
    // A copy without the signature is no other proposal.
    const copy = readProposal(readFileSync(join(folder, 'ours.json'), 'utf8'), 'ours.json');
    for (const name of ['proposal-0.json', 'z.json'])
      writeFileSync(join(folder, name), writeProposal({ ...copy, signatures: forged }, []));
    const { proposals } = await ok(STRANGER, 'status', ...there);
    const found = (proposals as { hash: string; signatures: number }[]).filter(
      ({ hash }) => hash === ours.hash,
    );
    expect(found).toMatchObject([{ signatures: 1 }]);
  }, 30_000);

  test('emergency-revoke: a signer prepares the same revocation, and is told when it can take effect', async () => {
    const what = ['emergency-revoke', 'image', image];
    const { stdout, stderr, code } = await gov(A, ...what, '--dry-run');
    expect(code, stderr).toBe(0);
    expect(stderr).toContain(`${account(A)} is not a guardian of`);
    expect(stderr).toContain(`A guardian can revoke at once: ${account(GUARDIAN)}`);
    expect(stdout).toContain(`revoke OS image ${image}, on DstackKms`);
    expect(stdout).toContain('It takes effect 1 hour after it is scheduled, not before ');
    expect(stdout).toContain('nothing was signed or written');
    const proposed = await ok(A, ...what);
    expect(proposed).toMatchObject({ immediate: false, signed: true, delay_seconds: DELAY });
    const { timestamp } = (await rpc('eth_getBlockByNumber', ['latest', false])) as { timestamp: string };
    expect(proposed['not_before']).toBe(Number(timestamp) + DELAY);
    expect(JSON.parse(readFileSync(proposed.file, 'utf8')).signatures).toHaveLength(1);
    expect(await refused(STRANGER, ...what)).toContain(`gov approve ${proposed.file}. Pass --again`);
    const stranger = await gov(STRANGER, ...what, '-o', 'stranger.json', '--again');
    expect(stranger.stderr).toContain(`${proposed.file} has nonce`);
    expect(stranger.stderr).toContain(`${account(STRANGER)} does not sign for Safe`);
    expect(JSON.parse(readFileSync(box.path('stranger.json'), 'utf8')).signatures).toEqual([]);
  });

  test('emergency-revoke: a guardian at once', async () => {
    const absent = 'so this changes nothing. Check that it is the one you mean';
    const mistyped = await gov(GUARDIAN, 'emergency-revoke', 'image', hash('e'), '--dry-run');
    expect(mistyped.stderr).toContain(`${hash('e')} is not allowed by `);
    expect(mistyped.stderr).toContain(absent);
    expect(await ok(GUARDIAN, 'emergency-revoke', 'image', image, '--dry-run')).toMatchObject({
      immediate: true,
      sent: false,
    });
    const revoked = await gov(GUARDIAN, 'emergency-revoke', 'image', image);
    expect(revoked.stdout).toContain('Revoked in transaction');
    expect(revoked.stderr).not.toContain(absent);
    const twice = await gov(GUARDIAN, 'emergency-revoke', 'image', image, '--dry-run');
    expect(twice.stderr).toContain(absent);
  });

  /** Through both signatures; the result of the submission. */
  const agreed = async (proposed: Answer): Promise<Answer> => {
    await ok(B, 'approve', proposed.file);
    return await ok(STRANGER, 'submit', proposed.file);
  };

  test('cancel takes effect at once', async () => {
    const proposed = await ok(A, 'propose', 'kms:add-image', image, '+', 'kms:add', hash('5'));
    // Whoever revokes what this allows is told of it, at each stage.
    const revoking = ['emergency-revoke', 'image', image.toUpperCase().replace('0X', '0x'), '--dry-run'];
    const asProposal = await gov(GUARDIAN, ...revoking);
    expect(asProposal.stderr).toContain(`${proposed.file} would allow it again when it is executed`);
    expect(asProposal.stderr).toContain(`dstack-cloud gov reject ${proposed.file}`);
    const another = await gov(GUARDIAN, 'emergency-revoke', 'image', hash('e'), '--dry-run');
    expect(another.stderr).not.toContain('would allow it again');
    await agreed(proposed);
    const [scheduled] = (await ok(GUARDIAN, ...revoking))['allowed_again_by'] as { stop: string }[];
    expect(scheduled).toMatchObject({ kind: 'operation', id: proposed.operation });
    expect(scheduled?.stop).toBe(`dstack-cloud gov cancel ${proposed.operation}`);
    await agreed(await ok(A, 'cancel', proposed.file));
    expect(await ok(GUARDIAN, ...revoking)).toMatchObject({ allowed_again_by: [] });
    await pass(DELAY);
    expect(await refused(A, 'execute', proposed.file)).toContain('was cancelled');
  }, 60_000);

  test('what a Timelock makes was public for long enough for a policy delay', async () => {
    const executed = async (...action: string[]): Promise<void> => {
      const proposed = await ok(A, 'propose', ...action);
      await agreed(proposed);
      await pass(DELAY);
      await agreed(await ok(A, 'execute', proposed.operation));
    };
    await executed('kms:set-policy-delay', '1800');
    await executed('kms:add-image', hash('2'), '+', 'kms:add', hash('2'));
    // The second call fails because of the first, which a trial of each alone would not see.
    expect(await refused(A, 'propose', 'kms:set-owner', account(STRANGER), '+', 'kms:pause')).toContain(
      'pause: allow nothing, on DstackKms: caller is neither the owner nor a guardian',
    );
    const { stdout } = await gov(STRANGER, 'propose', 'kms:remove-image', hash('2'), '--dry-run');
    expect(stdout).toContain(`revoke OS image ${hash('2')}, on DstackKms`);
  }, 60_000);

  test('a call that fails on the present state is neither proposed nor executed', async () => {
    expect(await refused(A, 'propose', 'raw', account(STRANGER), '0x12345678')).toContain(
      'no contract of this domain',
    );
    expect(await refused(A, 'propose', 'kms:upgrade', account(STRANGER))).toContain('no UUPS implementation');
    expect(await refused(A, 'propose', 'signer:remove', account(C), '3')).toContain(
      'more signatures than signers',
    );
  });

  test('a lost signer is replaced, and its signature no longer counts', async () => {
    await agreed(await ok(A, 'propose', 'signer:swap', account(C), account(NEW)));
    const proposed = await ok(A, 'propose', 'kms:add-device', hash('6'));
    expect(await refused(C, 'approve', proposed.file)).toContain('does not sign for Safe');
    expect(await ok(NEW, 'approve', proposed.file)).toMatchObject({ signatures: 2 });
    await ok(STRANGER, 'submit', proposed.file);
    const { code, stdout } = await gov(STRANGER, 'health');
    expect(code).toBe(1);
    expect(stdout).toContain('its signers are not those that were deployed');
  }, 60_000);

  test('reject: the other proposal with the nonce can never be executed', async () => {
    const proposed = await ok(A, 'propose', 'kms:add-device', hash('7'));
    await agreed(await ok(A, 'reject', proposed.file, '-o', 'reject.json'));
    expect(await refused(B, 'approve', proposed.file)).toContain('already: this proposal is over');
  }, 60_000);

  test('a proposal that was changed, or names another Safe or chain, is refused', async () => {
    const proposed = await ok(A, 'propose', 'kms:add-device', hash('8'));
    const text = readFileSync(proposed.file, 'utf8');
    const changed = box.path('changed.json');
    writeFileSync(changed, text.replaceAll('8'.repeat(64), '9'.repeat(64)));
    expect(await refused(B, 'approve', changed)).toContain('its hash is not that of its content');
    writeFileSync(changed, text.replace('"chainId": 31337', '"chainId": 1'));
    expect(await refused(B, 'approve', changed)).toContain('its hash is not that of its content');
    writeFileSync(changed, '{');
    expect(await refused(B, 'approve', changed)).toContain('is no JSON');
  });

  test('a signature of nobody who signs is found out, also one that was added to a file', async () => {
    const { file } = await ok(A, 'propose', 'kms:add-device', hash('a'), '-o', 'added.json');
    const proposal = JSON.parse(readFileSync(file, 'utf8'));
    const { signatures } = JSON.parse(
      readFileSync((await ok(A, 'propose', 'kms:add-device', hash('b'))).file, 'utf8'),
    );
    writeFileSync(file, JSON.stringify({ ...proposal, signatures: [...proposal.signatures, ...signatures] }));
    expect(await refused(B, 'approve', file)).toContain('by nobody who signs');
    expect(await refused(B, 'submit', file)).toContain('by nobody who signs');
  });

  describe('approve --offline', () => {
    let air: Sandbox;
    beforeAll(() => {
      air = new Sandbox();
    });
    afterAll(() => air?.remove());

    /** On a machine whose only endpoint answers nothing. */
    const offline = async (index: number, ...argv: string[]): Promise<Outcome> => {
      air.env = { RPC_URL: 'http://127.0.0.1:1', PRIVATE_KEY: anvil.accounts[index]!.privateKey };
      return await air.run('gov', 'approve', 'carried.json', '--offline', '--yes', ...argv);
    };
    const carry = (text: string): void => writeFileSync(air.path('carried.json'), text);

    test('a machine without an endpoint signs, and the others execute what it signed', async () => {
      const { file } = await ok(A, 'propose', 'kms:add-device', hash('e1'), '-o', 'to-sign.json');
      const text = readFileSync(file, 'utf8');
      carry(text);
      expect((await offline(B)).stderr).toContain('names no Safe with its signers');
      writeFileSync(air.path('governance.json'), readFileSync(box.path('governance.json')));

      expect((await offline(STRANGER)).stderr).toContain('does not sign for Safe');
      const dry = await offline(B, '--dry-run');
      expect(dry.stdout).toContain(`Would sign it as ${account(B)}: 2 of 2 signatures`);
      expect(readFileSync(air.path('carried.json'), 'utf8')).toBe(text);

      const signed = await offline(B);
      expect(signed.code, signed.stderr).toBe(0);
      expect(signed.stdout).toContain(`allow KMS device ${hash('e1')}`);
      expect(signed.stderr).toContain('Nothing is read from the chain');
      writeFileSync(file, readFileSync(air.path('carried.json')));
      expect(await ok(STRANGER, 'submit', file)).toMatchObject({ sent: true });
    }, 60_000);

    test('with or without a chain, a whole proposal of another chain or Safe is refused', async () => {
      const { file } = await ok(A, 'propose', 'kms:add-device', hash('e1'), '--again', '-o', 'moved.json');
      const { signatures: _, ...proposal } = readProposal(readFileSync(file, 'utf8'), file);
      const elsewhere = [
        [{ chainId: 1 }, 'The proposal is of another chain'],
        [{ safe: account(STRANGER) as Address }, 'The proposal is of another Safe'],
      ] as const;
      for (const [change, message] of elsewhere) {
        const text = writeProposal({ ...proposal, ...change, signatures: [] }, []);
        carry(text);
        expect((await offline(B)).stderr).toContain(message);
        writeFileSync(file, text);
        expect(await refused(B, 'approve', file)).toContain(message);
      }
      carry(readFileSync(file, 'utf8').replace('"nonce": "', '"nonce": "1'));
      expect((await offline(B)).stderr).toContain('its hash is not that of its content');
      expect((await offline(B, '--on-chain')).stderr).toContain('--offline signs a file');
      expect((await offline(B, '--service', 'https://safe.example/api')).stderr).toContain('--offline signs');
    });

    test('a signature of nobody who signs is found without a chain too', async () => {
      const { file } = await ok(A, 'propose', 'kms:add-device', hash('f1'), '-o', 'forged.json');
      const proposal = readProposal(readFileSync(file, 'utf8'), file);
      const { signatures } = readProposal(readFileSync(box.path('to-sign.json'), 'utf8'), 'to-sign.json');
      carry(writeProposal({ ...proposal, signatures }, []));
      expect((await offline(B)).stderr).toContain('by nobody who signs');
    });
  });

  test('a file that has another proposal is not written over', async () => {
    const { file } = await ok(A, 'propose', 'kms:add-device', hash('d1'), '-o', 'taken.json');
    const before = readFileSync(file, 'utf8');
    const error = await refused(A, 'propose', 'kms:add-device', hash('d2'), '-o', 'taken.json');
    expect(error).toContain('taken.json has another proposal, which stays');
    expect(error).toContain('Name another file with -o');
    expect(readFileSync(file, 'utf8')).toBe(before);
    for (const damaged of ['{', before.slice(0, 200), '{"name":"theirs"}']) {
      writeFileSync(file, damaged);
      const stays = await refused(A, 'propose', 'kms:add-device', hash('d2'), '-o', 'taken.json');
      expect(stays).toContain('taken.json exists and is no whole proposal: it stays');
      expect(stays).toContain('Name another file with -o');
      expect(readFileSync(file, 'utf8')).toBe(damaged);
    }
  });

  test('status names proposals that are over, and says that files were left out', async () => {
    const folder = mkdtempSync(box.path('over-'));
    const there = ['status', '-C', folder, '--governance', box.path('governance.json')];
    const { file } = await ok(A, 'propose', 'kms:add-device', hash('d3'), '-o', 'over.json');
    const { effect, ...proposal } = JSON.parse(readFileSync(file, 'utf8'));
    const made = readProposal(JSON.stringify(proposal), file);
    const over = writeProposal({ ...made, tx: { ...made.tx, nonce: 0n }, signatures: [] }, effect);
    writeFileSync(join(folder, 'proposal-0-over.json'), over);
    const few = await gov(A, ...there);
    expect(few.stdout).toContain('proposal-0-over.json: executed, or can never be executed: nonce 0 is used');
    expect(few.stderr).not.toContain('not looked at');
    for (let n = 0; n < 202; n += 1) writeFileSync(join(folder, `${n}.json`), '{}');
    expect((await gov(A, ...there)).stderr).toContain('3 JSON files of the folder were not looked at');
    expect(await ok(A, ...there)).toMatchObject({ files_left_out: 3, proposals_over: [{ nonce: 0 }] });
  });

  test('of two operators who propose at once, the second is told that its nonce is used', async () => {
    const [one, other] = [
      await ok(A, 'propose', 'kms:add-device', hash('c'), '-o', 'one.json'),
      await ok(B, 'propose', 'kms:add-device', hash('d'), '-o', 'other.json'),
    ];
    await agreed(one);
    expect(await refused(A, 'approve', other.file)).toContain('this proposal is over');
  }, 60_000);

  test('an operation waits for the one before it; one that does not exist is refused', async () => {
    expect(await refused(A, 'propose', 'kms:add-device', hash('e'), '--after', hash('9'))).toContain(
      'There is no operation',
    );
    const first = await ok(A, 'propose', 'kms:add-device', hash('e'));
    await agreed(first);
    const second = await ok(A, 'propose', 'kms:add-device', hash('f'), '--after', first.operation);
    await agreed(second);
    await pass(DELAY);
    expect(await refused(A, 'execute', second.operation)).toContain(
      `has to wait for operation ${first.operation}`,
    );
    await agreed(await ok(A, 'cancel', first.operation));
    expect(await refused(A, 'execute', second.operation)).toContain('cancelled');
  }, 60_000);

  test('a proposal whose delay has become too short is not scheduled', async () => {
    const longer = await ok(A, 'propose', 'timelock:delay', String(2 * DELAY));
    await agreed(longer);
    await pass(DELAY);
    const execution = await ok(A, 'execute', longer.operation);
    const early = await ok(A, 'propose', 'kms:add-device', hash('1'), '--nonce', '30', '-o', 'early.json');
    await agreed(execution);
    expect(await refused(B, 'approve', early.file)).toMatch(/insufficient delay: 3600 s, at least 7200 s/);
    expect(await refused(A, 'propose', 'kms:add-device', hash('1'), '--delay', '3600')).toContain(
      'shorter than the Timelock allows',
    );
  }, 60_000);

  test('an endpoint that stands still, or whose second says something else, is not believed', async () => {
    box.now = new Date(Date.now() + 30 * 86_400_000);
    expect(await refused(A, 'status', '--max-block-age', '600')).toContain('seconds old');
    const liar = createServer((request, response) => {
      void (async () => {
        const chunks: Buffer[] = [];
        for await (const chunk of request) chunks.push(chunk as Buffer);
        const headers = { 'content-type': 'application/json' };
        const answer = await fetch(anvil.rpcUrl, { method: 'POST', headers, body: Buffer.concat(chunks) });
        // It hides a role: another account seems to be no guardian.
        response.end(
          (await answer.text()).replaceAll(account(GUARDIAN).slice(2).toLowerCase(), 'ab'.repeat(20)),
        );
      })();
    });
    await new Promise<void>((done) => liar.listen(0, '127.0.0.1', done));
    box.env = {
      RPC_URL: anvil.rpcUrl,
      SECOND_RPC_URL: `http://127.0.0.1:${(liar.address() as AddressInfo).port}`,
    };
    const { code, stderr } = await box.run('gov', 'status', '--network', 'test');
    liar.closeAllConnections();
    await new Promise((done) => liar.close(done));
    expect(code).toBe(1);
    expect(stderr).toContain('The endpoints do not agree on DstackKms');
    box.env = { RPC_URL: anvil.rpcUrl, SECOND_RPC_URL: anvil.rpcUrl };
    expect((await box.run('gov', 'status', '--network', 'test')).code).toBe(0);
  }, 60_000);

  test('no key is in an argument, an error or a file', async () => {
    box.env = { RPC_URL: anvil.rpcUrl };
    const { code, stderr } = await box.run('gov', 'approve', 'x.json', '--network', 'test');
    expect(code).not.toBe(0);
    expect(stderr).not.toMatch(/[0-9a-f]{64}/);
    box.env = { RPC_URL: anvil.rpcUrl, PRIVATE_KEY: 'f'.repeat(64) };
    const bad = await box.run('gov', 'propose', 'kms:add-image', hash('4'), '--network', 'test');
    expect(bad.stderr).toContain('out of the range');
    expect(bad.stderr).not.toContain('f'.repeat(20));
  });
});
