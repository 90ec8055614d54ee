/** `gov watch` as the command line: one sentence for what is wrong, valid JSON when there is nothing. */
import { writeFileSync } from 'node:fs';
import { type Anvil, buildContracts, connectChain, deployKms, startAnvil } from '@dstack-cloud/contracts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Sandbox } from '../testing.ts';

let anvil: Anvil;
let box: Sandbox;
let kms: string;
beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  const { rpcUrl } = anvil;
  const [account] = anvil.accounts;
  ({ kms } = await deployKms({
    client: await connectChain({ rpcUrl, privateKey: account!.privateKey, pollingIntervalMs: 10 }),
  }));
  box = new Sandbox();
}, 120_000);
afterAll(async () => {
  await anvil?.stop();
  box?.remove();
});

function configure(rpcUrl: string): void {
  writeFileSync(
    box.path('watch.toml'),
    `rpc_urls = ["${rpcUrl}"]\nkms_contract = "${kms}"\nrpc_timeout_seconds = 1\n[alerts]\nstale_seconds = 86400\n`,
  );
}

test('a file that is not there is said once, with what to do', async () => {
  const { code, stdout, stderr } = await box.run('gov', 'watch', '--once', 'absent.toml');
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr.split('\n')).toEqual([
    `Error: Configuration ${box.path('absent.toml')} does not exist`,
    expect.stringMatching(/^ {2}Next: +Name the file/),
    '',
  ]);
  const json = await box.run('gov', 'watch', '--once', '--json', 'absent.toml');
  expect(JSON.parse(json.stdout)).toMatchObject({ error: { code: 'bad-configuration' } });
});

test('a wrong value is said with its key and the file', async () => {
  writeFileSync(box.path('wrong.toml'), `kms_contract = "0x1"\n`);
  const { stderr } = await box.run('gov', 'watch', '--once', 'wrong.toml');
  expect(stderr).toMatch(/^Error: \S+\/wrong\.toml cannot be used:\n[ |]+kms_contract: must be an address/);
});

test('--once --json prints what the pass was when there is nothing to tell', async () => {
  configure(anvil.rpcUrl);
  for (const events of [expect.any(Number) as number, 0]) {
    const { code, stdout, stderr } = await box.run('gov', 'watch', '--once', '--json', '--quiet');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({
      pass: { block: expect.any(Number), head: expect.any(Number), events, messages: 0, waiting: 0 },
    });
  }
}, 60_000);

test('endpoints that do not answer are said once', async () => {
  configure('http://127.0.0.1:1');
  const { code, stdout, stderr } = await box.run('gov', 'watch', '--once', '--quiet');
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr.split('\n')).toEqual([
    expect.stringMatching(/^Error: The chain cannot be read: connection failed \(ECONNREFUSED\)/),
    expect.stringMatching(/^ {2}Next: +Check rpc_urls/),
    '',
  ]);
}, 60_000);
