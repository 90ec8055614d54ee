import { build } from '../build.ts';
import type { Cleanup } from './cleanup.ts';
import { commandLine } from './command-line.ts';
import { deployContracts, publishKms, registerKms } from './contracts.ts';
import { bootKms, bootstrapKms, finishKms, kmsAttestation, VM_DOMAIN } from './kms.ts';
import { openConsole } from './open-console.ts';
import { prepareVm, requireVmHost } from './prepare-vm.ts';
import { readPage } from './read-page.ts';
import type { DemoReport } from './report.ts';
import { startChain } from './start-chain.ts';
import { startPlatform } from './start-platform.ts';
import type { Steps } from './steps.ts';
import { makeWorkspace, writeConfig } from './workspace.ts';

export interface StoryOptions {
  readonly steps: Steps;
  readonly cleanup: Cleanup;
  readonly report: DemoReport;
  readonly keep: boolean;
  /** Applications run in virtual machines of our OS image. */
  readonly vm: boolean;
  readonly signal: AbortSignal;
}

/** The demo, step by step; the names are part of its JSON. */
export async function story(options: StoryOptions): Promise<void> {
  const { steps, cleanup, report, keep, signal } = options;
  const qemu = options.vm ? await requireVmHost(steps) : undefined;
  const programs = await steps.run('build', 'Build the programs and contracts', async () => {
    const built = await build();
    return [built.directory, `${built.programs.length} programs, ${built.fresh ? 'up to date' : 'built'}`];
  });
  const space = await makeWorkspace(cleanup, programs, keep);
  report.binDirectory = programs;

  const chain = await steps.run('chain', 'Start a local chain', async () => {
    const chain = await startChain(space, cleanup);
    return [chain, `anvil, chain ${chain.chainId}, ${chain.rpcUrl}`];
  });
  const contracts = await steps.run('contracts', 'Deploy DstackKms and DstackApp', async () => {
    const contracts = await deployContracts(chain);
    return [contracts, `DstackKms ${contracts.kms}`];
  });
  report.console = await openConsole(chain, contracts, report, cleanup);
  const platform = await steps.run(
    'platform',
    'Make a simulated TDX platform and its collateral service',
    async () => {
      const platform = await startPlatform(space, cleanup);
      return [platform, `Test root and PCS v4 service at ${platform.pccsUrl}`];
    },
  );
  const kms = await steps.run('kms-boot', 'Boot the key service in a machine of its own', async () => {
    const kms = await bootKms({
      space,
      chain,
      contracts,
      platform,
      signal,
      note: (text) => steps.note(text),
    });
    return [kms, `Onboarding at ${kms.onboardUrl}`];
  });
  const measured = await steps.run('kms-attestation', 'Ask the key service for its attestation', async () => {
    const measured = await kmsAttestation(kms);
    return [
      measured,
      `mr_aggregated ${measured.mrAggregated.slice(0, 16)}…, device ${measured.deviceId.slice(0, 16)}…`,
    ];
  });
  await steps.run('kms-register', 'Register its measurements on chain', async () => {
    await registerKms(contracts, measured);
    return [undefined, 'OS image, aggregated measurement and device are allowed'];
  });
  const identity = await steps.run('kms-bootstrap', 'Bootstrap the root keys inside the TEE', async () => {
    const identity = await bootstrapKms(kms, options.vm ? VM_DOMAIN : undefined);
    return [identity, `Root key 0x${identity.k256Pubkey}`];
  });
  await steps.run('kms-publish', 'Publish its public keys on chain', async () => {
    await publishKms(contracts, identity);
    return [undefined, 'setKmsInfo'];
  });
  await steps.run('kms-finish', 'Finish onboarding: the key service opens', async () => {
    await finishKms(kms);
    report.kms = { url: kms.url, k256_pubkey: identity.k256Pubkey };
    return [undefined, `RA-TLS at ${kms.url}`];
  });

  const image = qemu === undefined ? undefined : await prepareVm({ steps, space, contracts, qemu });
  report.osImage = image?.image;
  const services = { chain, contracts, platform, kmsUrl: kms.url };
  report.config = await writeConfig(space, { ...services, images: image?.images });
  const cli = commandLine(space, report.config, steps, signal);
  const first = 'guestbook';
  const second = 'notary';
  await steps.run('projects', 'Create two projects from the template', async () => {
    await cli.run(space.projects, 'new', first);
    await cli.run(space.projects, 'new', second);
    if (image !== undefined)
      for (const name of [first, second]) await image.settle(`${space.projects}/${name}`);
    const app = await cli.json(`${space.projects}/${first}`, 'app', 'create', '--no-compose-hash');
    return [undefined, `${first}: contract ${String(app['app_id'])}, which allows no compose hash yet`];
  });
  const project = `${space.projects}/${first}`;
  await steps.run(
    'deploy-unregistered',
    'Deploy a compose file that the contract does not allow',
    async () => {
      // The command line itself would refuse it first; here the key service is to.
      const error = await cli.refused(project, 'deploy', '--no-policy-check');
      expectDenial(error);
      report.denied.push({ when: 'unregistered', error });
      return [undefined, `Refused: ${error}`];
    },
  );
  await steps.run('register', 'Allow its compose hash on chain', async () => {
    const allowed = await cli.json(project, 'app', 'allow');
    return [undefined, `Compose hash ${String(allowed['compose_hash'])}`];
  });
  const deployed = await steps.run('deploy', 'Deploy again', async () => {
    const state = await cli.json(project, 'deploy');
    return [state, `Running, instance ${String(state['instance_id'])}`];
  });
  const urls = deployed['urls'] as Record<string, string>;
  const page = await steps.run('page', 'Read its web page, with a nonce of ours', async () => {
    const page = await readPage(urls['app'] ?? '', signal);
    report.app = {
      app_id: page.app_id,
      compose_hash: page.compose_hash,
      instance_id: page.instance_id,
      url: urls['app'] ?? '',
      agent_url: urls['agent'] ?? '',
      address: page.address,
    };
    return [page, `App ${page.app_id}, Ethereum address ${page.address}, quote over our nonce`];
  });
  await steps.run('verify', 'Verify its attestation, link by link', async () => {
    const result = await cli.json(project, 'verify');
    const { links, ...rest } = result as { links: { name: string; ok: boolean | null; why: string }[] };
    report.verify = { ...(rest as unknown as { is_valid: boolean; simulated: boolean }), links };
    for (const { name, ok, why } of links)
      steps.note(`${ok === null ? '-' : ok ? '✓' : '✗'} ${name}: ${why}`);
    if (report.verify.is_valid !== true) throw new Error('The attestation was not accepted');
    return [undefined, String(result['verdict_text'])];
  });
  await steps.run('deploy-second', 'Deploy the second project: other app, other keys', async () => {
    const state = await cli.json(`${space.projects}/${second}`, 'deploy');
    const url = (state['urls'] as Record<string, string>)['app'] ?? '';
    const other = await readPage(url, signal);
    if (other.address === page.address) throw new Error('Two apps hold the same key');
    report.second = { app_id: other.app_id, url, address: other.address };
    return [undefined, `App ${other.app_id}, Ethereum address ${other.address}`];
  });
  await steps.run('revoke', 'Revoke the first compose hash on chain', async () => {
    const revoked = await cli.json(project, 'app', 'revoke');
    return [undefined, `Compose hash ${String(revoked['compose_hash'])}`];
  });
  await steps.run('restart-revoked', 'Restart the first app', async () => {
    await cli.json(project, 'stop');
    const error = await cli.refused(project, 'start');
    expectDenial(error);
    report.denied.push({ when: 'revoked', error });
    return [undefined, `Refused: ${error}`];
  });
  await steps.run('restore', 'Restore the compose hash, start again', async () => {
    await cli.json(project, 'app', 'allow');
    const state = await cli.json(project, 'start');
    const url = (state['urls'] as Record<string, string>)['app'] ?? '';
    const again = await readPage(url, signal);
    if (again.address !== page.address) throw new Error('The app came back with another key');
    if (report.app !== undefined) report.app.url = url;
    return [undefined, `Running, with the same key ${again.address}`];
  });
}

function expectDenial(error: string): void {
  if (!error.includes('Boot denied: Compose hash not allowed'))
    throw new Error(`Expected the refusal "Boot denied: Compose hash not allowed", found: ${error}`);
}
