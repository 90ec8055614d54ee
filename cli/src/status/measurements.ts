import { messageOf } from '../errors.ts';
import type { MachineReport, Place } from '../platforms/platform.ts';
import { prepareShared } from '../project/shared-files.ts';
import type { ProjectState } from '../project/state-file.ts';
import { fetchJson } from '../verify/fetch-json.ts';
import { deviceId } from './device-id.ts';
import type { Measurements } from './measured.ts';

const REGISTERS = ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'] as const;
/** Of a vTPM, on Google Cloud. */
const PCR = /^pcr\d{1,2}$/;

/** Hashes computed here, and what the running guest agent reports, unverified (`verify` does that) but for the device. */
export async function measurements(
  place: Place,
  state: ProjectState,
  report: MachineReport,
): Promise<Measurements> {
  if (state.platform === 'nitro') {
    const { enclaveMeasurements } = await import('./enclave-measurements.ts');
    return await enclaveMeasurements(place, state, report);
  }
  const rows: [string, string][] = [
    ['compose-hash', state.compose_hash],
    ['os-image-hash', state.os_image_hash],
    ['app-id', state.app_id],
    ['instance-id', report.instanceId ?? state.instance_id],
  ];
  const drift: string[] = [];
  try {
    const local = await prepareShared(place.context, place.config, place.project);
    if (local.composeHash !== state.compose_hash)
      drift.push(`compose-hash of the local files is ${local.composeHash}: deploy to update`);
    if (state.os_image_hash !== '' && local.osImageHash !== state.os_image_hash)
      drift.push(`os-image-hash of the configured image is ${local.osImageHash}`);
  } catch (error) {
    drift.push(`The local files cannot be measured: ${messageOf(error)}`);
  }
  const { agent } = report.urls;
  if (agent === undefined || report.status !== 'RUNNING') return { rows, drift };
  try {
    const guest = await guestInfo(agent);
    rows.push(...guest);
    const running = guest.find(([name]) => name === 'running-compose-hash')?.[1];
    if (running !== undefined && running !== state.compose_hash)
      drift.push(`The machine runs compose-hash ${running}`);
  } catch (error) {
    drift.push(`The guest agent at ${agent} does not answer: ${messageOf(error)}`);
  }
  try {
    rows.push(['device-id', await deviceId(place, agent)]);
  } catch (error) {
    drift.push(`The device is not known: ${messageOf(error)}`);
  }
  return { rows: rows.filter(([name]) => name !== 'running-compose-hash'), drift };
}

async function guestInfo(agent: string): Promise<[string, string][]> {
  const info = (await fetchJson(`${agent}/prpc/Worker.Info?json`, { method: 'POST', body: '{}' })) as {
    tcb_info?: unknown;
    compose_hash?: unknown;
  };
  const tcb = parse(info.tcb_info);
  const rows: [string, string][] = [];
  const add = (name: string, value: unknown): void => {
    if (typeof value === 'string' && value !== '') rows.push([name, value]);
  };
  for (const name of REGISTERS) add(name, tcb[name]);
  for (const [name, value] of Object.entries(tcb)) if (PCR.test(name)) add(name, value);
  add('mr-aggregated', tcb['mr_aggregated']);
  add('running-compose-hash', tcb['compose_hash'] ?? info.compose_hash);
  return rows;
}

function parse(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  if (typeof value !== 'string' || value === '') return {};
  return JSON.parse(value) as Record<string, unknown>;
}
