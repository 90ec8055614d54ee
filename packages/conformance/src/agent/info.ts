import { createHash, X509Certificate } from 'node:crypto';
import { eventLogFromJson } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { type ConformanceCase, expectSame, expectText, expectThat, NotApplicable, reading } from '../case.ts';
import type { Endpoint } from '../endpoint.ts';
import { call, hexOf, textMember } from '../rpc.ts';
import { expectReplay } from './evidence.ts';
import { type AgentTarget, tappdOf } from './target.ts';

const TEXTS = [
  'app_cert',
  'tcb_info',
  'app_name',
  'key_provider_info',
  'vm_config',
  'cloud_vendor',
  'cloud_product',
];

async function tcbInfoOf(
  dstack: Endpoint,
): Promise<{ info: Record<string, unknown>; tcb: Record<string, unknown> }> {
  const info = await call(dstack, '/Info');
  const text = textMember(info, 'tcb_info');
  return { info, tcb: reading('tcb_info', () => JSON.parse(text) as Record<string, unknown>) };
}

/** Info and Version. */
export const INFO_CASES: readonly ConformanceCase<AgentTarget>[] = [
  {
    id: 'agent.info.members',
    checks: 'Info has every member: identities of their lengths, and texts.',
    section: 'guest-agent.md 3',
    run: async ({ dstack }) => {
      const info = await call(dstack, '/Info');
      hexOf(info, 'app_id', 20);
      const instance = hexOf(info, 'instance_id').length / 2;
      expectThat(instance === 20 || instance === 0, `instance_id has ${instance} bytes`);
      for (const name of ['device_id', 'mr_aggregated', 'compose_hash']) hexOf(info, name, 32);
      const image = hexOf(info, 'os_image_hash').length / 2;
      expectThat(image === 32 || image === 0, `os_image_hash has ${image} bytes`);
      for (const name of TEXTS) textMember(info, name);
      expectText('app_name', info['app_name'], /./);
    },
  },
  {
    id: 'agent.info.key-provider',
    checks: 'key_provider_info is the JSON of a name and an id.',
    section: 'guest-agent.md 3',
    run: async ({ dstack }) => {
      const text = textMember(await call(dstack, '/Info'), 'key_provider_info');
      const value = reading('key_provider_info', () => JSON.parse(text) as Record<string, unknown>);
      expectText('name', value['name'], /^[a-z-]+$/);
      expectText('id', value['id'], /^([0-9a-f]{2})*$/);
    },
  },
  {
    id: 'agent.info.tcb-info',
    checks: 'tcb_info is JSON with registers, hashes, the event log and app_compose.',
    section: 'guest-agent.md 4.6',
    run: async ({ dstack }) => {
      const { info, tcb } = await tcbInfoOf(dstack);
      for (const name of ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'])
        if (tcb[name] !== null) hexOf(tcb, name, 48);
      for (const name of ['mr_aggregated', 'compose_hash', 'device_id', 'os_image_hash'])
        expectSame(name, tcb[name], info[name]);
      expectThat(Array.isArray(tcb['event_log']), 'event_log is no list');
      expectText('app_compose', tcb['app_compose'], /^\s*\{/);
    },
  },
  {
    id: 'agent.info.compose-hash',
    checks: 'compose_hash is SHA-256 of app_compose as tcb_info has it.',
    section: 'app-compose.md 2.1',
    run: async ({ dstack }) => {
      const { info, tcb } = await tcbInfoOf(dstack);
      const hash = createHash('sha256').update(textMember(tcb, 'app_compose')).digest('hex');
      expectSame('compose_hash', info['compose_hash'], hash);
    },
  },
  {
    id: 'agent.info.replay',
    checks: 'The event log of tcb_info replays to its four registers.',
    section: 'guest-agent.md 4.6',
    run: async ({ dstack }) => {
      const { tcb } = await tcbInfoOf(dstack);
      if (tcb['mrtd'] === null) throw new NotApplicable('the machine has no TDX');
      const registers = [0, 1, 2, 3].map((index) => String(tcb[`rtmr${index}`]));
      expectReplay(JSON.stringify(tcb['event_log']), registers, [0, 1, 2, 3]);
    },
  },
  {
    id: 'agent.info.events',
    checks: 'app_id, instance_id and compose_hash are those of the measured events.',
    section: 'event-logs.md 4.2',
    run: async ({ dstack }) => {
      const { info, tcb } = await tcbInfoOf(dstack);
      if (tcb['mrtd'] === null) throw new NotApplicable('the machine has no TDX');
      const events = reading('event_log', () => eventLogFromJson(JSON.stringify(tcb['event_log'])));
      for (const [member, name] of [
        ['app_id', 'app-id'],
        ['instance_id', 'instance-id'],
        ['compose_hash', 'compose-hash'],
      ] as const) {
        const event = events.find((one) => one.imr === 3 && one.event === name);
        expectThat(event !== undefined, `There is no event ${name}`);
        expectSame(member, info[member], toHex(event.eventPayload));
      }
    },
  },
  {
    id: 'agent.info.app-cert',
    checks: 'app_cert is the PEM of a certificate, once it was issued.',
    section: 'guest-agent.md 4.6',
    run: async ({ dstack }) => {
      const issued = async (): Promise<string> => textMember(await call(dstack, '/Info'), 'app_cert');
      let text = await issued();
      for (let i = 0; text === '' && i < 50; i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        text = await issued();
      }
      expectThat(text !== '', 'app_cert is still empty after 5 s');
      reading('app_cert', () => new X509Certificate(text));
    },
  },
  {
    id: 'agent.version',
    checks: 'Version of DstackGuest has a version and a revision.',
    section: 'guest-agent.md 2',
    run: async ({ dstack }) => expectVersion(await call(dstack, '/Version')),
  },
  {
    id: 'agent.gpu-info',
    checks: 'GpuInfo has the member attestation, empty without a GPU.',
    section: 'guest-agent.md 2',
    isExtension: true,
    run: async ({ dstack }) => {
      textMember(await call(dstack, '/GpuInfo'), 'attestation');
    },
  },
  {
    id: 'agent.tappd.info',
    checks: 'Info and Version of Tappd answer as those of DstackGuest.',
    section: 'guest-agent.md 2',
    run: async (target) => {
      const tappd = tappdOf(target);
      const [info, same] = [await call(target.dstack, '/Info'), await call(tappd, '/prpc/Tappd.Info')];
      for (const name of ['app_id', 'instance_id', 'compose_hash', 'tcb_info'])
        expectSame(name, same[name], info[name]);
      expectVersion(await call(tappd, '/prpc/Tappd.Version'));
    },
  },
];

export function expectVersion(answer: Record<string, unknown>): void {
  expectText('version', answer['version'], /^[0-9]/);
  textMember(answer, 'rev');
}
