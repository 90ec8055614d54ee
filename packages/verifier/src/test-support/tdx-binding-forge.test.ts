import { replayRuntimeEvents } from '@dstack-cloud/attestation';
import { toHex, utf8, utf8Text } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { expect } from 'vitest';
import { forgeTable, type Row } from './forge-table.ts';
import { event, measure, sealTdx, setTd, type TdxDraft, tdxDraft } from './tdx-forge.ts';

type TdxRow = Row<TdxDraft>;

/** Replaces one runtime event of the boot sequence. */
function replaceEvent(draft: TdxDraft, name: string, ...events: ReturnType<typeof event>[]): void {
  draft.runtimeEvents = draft.runtimeEvents.flatMap((item) => (item.event === name ? events : [item]));
  measure(draft);
}

/** Puts events in after the first one of that name. */
function addAfter(draft: TdxDraft, name: string, ...events: ReturnType<typeof event>[]): void {
  const at = draft.runtimeEvents.findIndex((item) => item.event === name);
  draft.runtimeEvents.splice(at + 1, 0, ...events);
  measure(draft);
}

const BINDING: readonly TdxRow[] = [
  [
    'report data of the quote',
    (d) => setTd(d, 'reportData', Uint8Array.of(0xff), 63),
    'mismatch tdx.report-data',
  ],
  ['RTMR3 zero', (d) => setTd(d, 'rtmr3', new Uint8Array(48)), 'mismatch tdx.rtmr3'],
  [
    'an event more than RTMR3',
    (d) => {
      d.runtimeEvents.push(event('late'));
    },
    'mismatch tdx.rtmr3',
  ],
  [
    'an event less than RTMR3',
    (d) => {
      d.runtimeEvents.pop();
    },
    'mismatch tdx.rtmr3',
  ],
  [
    'two events exchanged, RTMR3 of the old order',
    (d) => {
      d.runtimeEvents.reverse();
    },
    'mismatch tdx.rtmr3',
  ],
  [
    'log has an imr 3 event more',
    (d) => {
      d.eventLog.push({ ...d.eventLog.at(-1)!, event: 'more' });
    },
    'event-log tdx.event-log',
  ],
  [
    'log lacks the last imr 3 event',
    (d) => {
      d.eventLog.pop();
    },
    'event-log tdx.event-log',
  ],
  [
    'log lacks all imr 3 events',
    (d) => {
      d.eventLog = d.eventLog.filter(({ imr }) => imr !== 3);
    },
    'good UpToDate',
  ],
  [
    'log is empty',
    (d) => {
      d.eventLog = [];
    },
    'event-log image.tdx',
  ],
  [
    'log imr 3 payload differs',
    (d) => {
      const last = d.eventLog.pop()!;
      d.eventLog.push({ ...last, eventPayload: Uint8Array.of(1) });
    },
    'event-log tdx.event-log',
  ],
  [
    'log imr 3 name differs',
    (d) => {
      const last = d.eventLog.pop()!;
      d.eventLog.push({ ...last, event: 'other' });
    },
    'event-log tdx.event-log',
  ],
  [
    'log imr 3 stored digest differs',
    (d) => {
      const last = d.eventLog.pop()!;
      d.eventLog.push({ ...last, digest: new Uint8Array(48) });
    },
    'event-log tdx.event-log',
  ],
  [
    'log imr 3 of another type',
    (d) => {
      const last = d.eventLog.pop()!;
      d.eventLog.push({ ...last, eventType: 6 });
    },
    'event-log tdx.event-log',
  ],
  [
    'log imr 3 digest stripped',
    (d) => {
      d.eventLog = d.eventLog.map((e) => (e.imr === 3 ? { ...e, digest: new Uint8Array(0) } : e));
    },
    'good UpToDate',
  ],
  [
    'log imr 4',
    (d) => {
      d.eventLog.push({ ...d.eventLog[0]!, imr: 4 });
    },
    'event-log tdx.event-registers',
  ],
  [
    'log imr 0 digest changed',
    (d) => {
      d.eventLog[0] = { ...d.eventLog[0]!, digest: new Uint8Array(48) };
    },
    'mismatch tdx.rtmr0',
  ],
  [
    'log imr 1 event missing',
    (d) => {
      const at = d.eventLog.findIndex(({ imr }) => imr === 1);
      d.eventLog.splice(at, 1);
    },
    'mismatch tdx.rtmr1',
  ],
  [
    'log imr 2 events exchanged',
    (d) => {
      const two = d.eventLog.filter(({ imr }) => imr === 2);
      d.eventLog = [...d.eventLog.filter(({ imr }) => imr !== 2), ...two.reverse()];
    },
    'mismatch tdx.rtmr2',
  ],
];

const EVENTS: readonly TdxRow[] = [
  [
    'app-id of 19 bytes',
    (d) => replaceEvent(d, 'app-id', event('app-id', '11'.repeat(19))),
    'event-log app.info',
  ],
  [
    'app-id of 21 bytes',
    (d) => replaceEvent(d, 'app-id', event('app-id', '11'.repeat(21))),
    'event-log app.info',
  ],
  ['app-id empty', (d) => replaceEvent(d, 'app-id', event('app-id')), 'event-log app.info'],
  ['app-id missing', (d) => replaceEvent(d, 'app-id'), 'event-log app.info'],
  [
    'app-id twice',
    (d) => replaceEvent(d, 'app-id', event('app-id', '11'.repeat(20)), event('app-id', '12'.repeat(20))),
    'event-log app.info',
  ],
  [
    'compose-hash of 31 bytes',
    (d) => replaceEvent(d, 'compose-hash', event('compose-hash', '11'.repeat(31))),
    'event-log app.info',
  ],
  ['compose-hash missing', (d) => replaceEvent(d, 'compose-hash'), 'event-log app.info'],
  [
    'compose-hash twice',
    (d) => replaceEvent(d, 'storage-fs', event('compose-hash', '12'.repeat(32))),
    'event-log app.info',
  ],
  [
    'app-id again before system-ready',
    (d) => replaceEvent(d, 'storage-fs', event('app-id', '12'.repeat(20))),
    'event-log app.info',
  ],
  [
    'instance-id of 19 bytes',
    (d) => replaceEvent(d, 'instance-id', event('instance-id', '11'.repeat(19))),
    'event-log app.info',
  ],
  ['instance-id empty', (d) => replaceEvent(d, 'instance-id', event('instance-id')), 'good UpToDate'],
  ['instance-id missing', (d) => replaceEvent(d, 'instance-id'), 'event-log app.info'],
  ['boot-mr-done missing', (d) => replaceEvent(d, 'boot-mr-done'), 'event-log app.info'],
  ['boot-mr-done twice', (d) => replaceEvent(d, 'storage-fs', event('boot-mr-done')), 'event-log app.info'],
  ['system-preparing missing', (d) => replaceEvent(d, 'system-preparing'), 'event-log app.info'],
  [
    'system-preparing twice',
    (d) => replaceEvent(d, 'storage-fs', event('system-preparing')),
    'event-log app.info',
  ],
  [
    'system-ready first',
    (d) => {
      d.runtimeEvents.unshift(event('system-ready'));
      measure(d);
    },
    'event-log app.info',
  ],
  [
    'a strange event before boot-mr-done',
    (d) => replaceEvent(d, 'boot-mr-done', event('strange'), event('boot-mr-done')),
    'event-log app.info',
  ],
  [
    'compose-hash before app-id',
    (d) => {
      const [a, b, c, ...rest] = d.runtimeEvents;
      d.runtimeEvents = [a!, c!, b!, ...rest];
      measure(d);
    },
    'event-log app.info',
  ],
  [
    'gpu-policy-hash after compose-hash',
    (d) => addAfter(d, 'compose-hash', event('gpu-policy-hash', '11'.repeat(32))),
    'good UpToDate',
  ],
  [
    'init scripts, gpu-policy-hash and gpu-attestation',
    (d) =>
      addAfter(
        d,
        'compose-hash',
        event('init-script-hash', '11'.repeat(32)),
        event('init-script-hash', '12'.repeat(32)),
        event('gpu-policy-hash', '13'.repeat(32)),
        event('gpu-attestation', toHex(utf8('{"devices":1}'))),
      ),
    'good UpToDate',
  ],
  [
    'gpu-policy-hash of 31 bytes',
    (d) => addAfter(d, 'compose-hash', event('gpu-policy-hash', '11'.repeat(31))),
    'event-log app.info',
  ],
  [
    'gpu-policy-hash twice',
    (d) =>
      addAfter(
        d,
        'compose-hash',
        event('gpu-policy-hash', '11'.repeat(32)),
        event('gpu-policy-hash', '11'.repeat(32)),
      ),
    'event-log app.info',
  ],
  [
    'gpu-policy-hash before compose-hash',
    (d) => addAfter(d, 'app-id', event('gpu-policy-hash', '11'.repeat(32))),
    'event-log app.info',
  ],
  [
    'gpu-policy-hash after boot-mr-done',
    (d) => addAfter(d, 'boot-mr-done', event('gpu-policy-hash', '11'.repeat(32))),
    'event-log app.info',
  ],
  [
    'gpu-attestation before gpu-policy-hash',
    (d) =>
      addAfter(
        d,
        'compose-hash',
        event('gpu-attestation', '7b7d'),
        event('gpu-policy-hash', '11'.repeat(32)),
      ),
    'event-log app.info',
  ],
  [
    'six init scripts',
    (d) =>
      addAfter(
        d,
        'compose-hash',
        ...Array.from({ length: 6 }, (_, i) => event('init-script-hash', `1${i}`.repeat(32))),
      ),
    'event-log app.info',
  ],
  [
    'an unknown gpu event among those that decide',
    (d) => addAfter(d, 'compose-hash', event('gpu-mode', '01')),
    'event-log app.info',
  ],
  [
    'an unknown event of the system after boot-mr-done',
    (d) => addAfter(d, 'storage-fs', event('swap-size', '01')),
    'good UpToDate',
  ],
  [
    'the same unknown event twice',
    (d) => addAfter(d, 'storage-fs', event('swap-size', '01'), event('swap-size', '01')),
    'event-log app.info',
  ],
  [
    'seventeen unknown events',
    (d) => addAfter(d, 'storage-fs', ...Array.from({ length: 17 }, (_, i) => event(`new-${i}`))),
    'event-log app.info',
  ],
  [
    'key-provider read as an event of another name with the same digest',
    (d) => {
      const at = d.runtimeEvents.findIndex((e) => e.event === 'key-provider');
      const text = utf8Text(d.runtimeEvents[at]!.payload);
      const colon = text.indexOf(':');
      const split = {
        event: `key-provider:${text.slice(0, colon)}`,
        payload: utf8(text.slice(colon + 1)),
      };
      const before = replayRuntimeEvents(d.runtimeEvents, 'sha384');
      d.runtimeEvents[at] = split;
      expect(replayRuntimeEvents(d.runtimeEvents, 'sha384')).toEqual(before);
      measure(d);
    },
    'event-log app.info',
  ],
  [
    'storage-fs before key-provider',
    (d) => {
      const provider = d.runtimeEvents.find((e) => e.event === 'key-provider')!;
      replaceEvent(d, 'key-provider');
      addAfter(d, 'storage-fs', provider);
    },
    'event-log app.info',
  ],
  [
    'os-image-hash of 31 bytes',
    (d) => replaceEvent(d, 'os-image-hash', event('os-image-hash', '11'.repeat(31))),
    'event-log app.info',
  ],
  [
    'system-ready with a payload',
    (d) => replaceEvent(d, 'system-ready', event('system-ready', '00')),
    'event-log app.info',
  ],
  [
    'system events of the newer line by an application, later',
    (d) => {
      d.runtimeEvents.push(
        event('gpu-policy-hash', '12'),
        event('system-ready'),
        event('key-provider', '00'),
      );
      measure(d);
    },
    'good UpToDate',
  ],
  [
    'rootfs-hash of an older release',
    (d) => {
      d.runtimeEvents.splice(1, 0, event('rootfs-hash', '11'.repeat(32)));
      measure(d);
    },
    'good UpToDate',
  ],
  [
    'key-provider twice',
    (d) => replaceEvent(d, 'storage-fs', d.runtimeEvents.find((e) => e.event === 'key-provider')!),
    'event-log app.info',
  ],
  [
    'mr-kms twice',
    (d) => replaceEvent(d, 'mr-kms', event('mr-kms', '11'.repeat(32)), event('mr-kms', '11'.repeat(32))),
    'good UpToDate',
  ],
  ['no key provider', (d) => replaceEvent(d, 'key-provider'), 'good UpToDate'],
  [
    'app-id by an application, later',
    (d) => {
      d.runtimeEvents.push(event('app-id', '12'.repeat(20)));
      measure(d);
    },
    'good UpToDate',
  ],
  [
    'no events at all',
    (d) => {
      d.runtimeEvents = [];
      measure(d);
    },
    'event-log app.info',
  ],
];

/** Runtime events of version 2, with their preimages in the log. */
function toVersion2(d: TdxDraft, change: (preimage: string, at: number) => string | undefined): void {
  d.runtimeEvents = d.runtimeEvents.map((e) => ({ ...e, version: 2 }));
  measure(d);
  d.eventLog = d.eventLog.map((e, at) => {
    if (e.imr !== 3) return e;
    const preimage = `{"name":${JSON.stringify(e.event)},"payload":"${toHex(e.eventPayload)}","type":134217729}`;
    const changed = change(toHex(utf8(preimage)), at);
    return changed === undefined ? e : { ...e, preimage: changed };
  });
}
const LAST = 30;
const V1 = ['v1'] as const;
const VERSION_2: readonly TdxRow[] = [
  ['events of version 2', (d) => toVersion2(d, (p) => p), 'good UpToDate', V1],
  [
    'preimage with a blank',
    (d) => toVersion2(d, (p, at) => (at === LAST ? `${p}20` : p)),
    'event-log tdx.event-preimage',
    V1,
  ],
  [
    'preimage with other key order',
    (d) => toVersion2(d, (p, at) => (at === LAST ? toHex(utf8('{"type":134217729,"name":"app-event"}')) : p)),
    'event-log tdx.event-preimage',
    V1,
  ],
  [
    'preimage empty',
    (d) => toVersion2(d, (p, at) => (at === LAST ? '' : p)),
    'event-log tdx.event-preimage',
    V1,
  ],
  [
    'preimage missing',
    (d) => toVersion2(d, (p, at) => (at === LAST ? undefined : p)),
    'event-log tdx.event-preimage',
    V1,
  ],
  [
    'preimage no hex',
    (d) => toVersion2(d, (p, at) => (at === LAST ? 'zz' : p)),
    'event-log tdx.event-preimage',
    V1,
  ],
  [
    'preimage on an event of version 1',
    (d) => {
      d.eventLog = d.eventLog.map((e) => (e.imr === 3 ? { ...e, preimage: '00' } : e));
    },
    'event-log tdx.event-preimage',
    V1,
  ],
  [
    'version 2 in the log alone',
    (d) => {
      toVersion2(d, (p) => p);
      d.runtimeEvents = d.runtimeEvents.map(({ event: name, payload }) => ({ event: name, payload }));
    },
    'mismatch tdx.rtmr3',
    V1,
  ],
];

describeWithFixtures('forged bindings of TDX evidence', 'mock-evidence/expected.json', () => {
  for (const rows of [BINDING, EVENTS, VERSION_2]) forgeTable(tdxDraft, sealTdx, rows);
});
