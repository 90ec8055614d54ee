import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { VmmError } from '../errors.ts';
import { canonical } from '../folder/machine-folder.ts';
import { enclaveFileName } from '../manifest/enclave-settings.ts';
import {
  type CvmManifest,
  MANIFEST_FILE,
  type ProcessManifest,
  parseManifest,
  type VmManifest,
} from '../manifest/manifest.ts';
import { vmSettings } from '../manifest/vm-settings.ts';
import { requireGrowth } from '../vm/data-disk.ts';
import type { CreateOptions } from './create-options.ts';

/** What a machine becomes: its id, disk, ports and simulated hardware stay. @throws VmmError `bad_option`, `bad_manifest` */
export function nextManifest(manifest: CvmManifest, options: CreateOptions): CvmManifest {
  const wanted = makeManifest(options);
  if (wanted.driver !== manifest.driver)
    throw new VmmError(
      'bad_option',
      `${manifest.name} has driver ${manifest.driver}: its data does not move to another driver; deploy --delete-data makes a new machine`,
      { expected: manifest.driver, found: wanted.driver },
    );
  if (wanted.driver === 'vm' && manifest.driver === 'vm')
    requireGrowth(manifest.vm.disk_size, wanted.vm.disk_size);
  const kept = wanted.port_map.map((mapping, index) => {
    const before = manifest.port_map[index];
    return !mapping.fixed && before?.to === mapping.to ? { ...mapping, from: before.from } : mapping;
  });
  const agent_port = wanted.agent_port.fixed ? wanted.agent_port : { ...manifest.agent_port, fixed: false };
  const { id, created_at_ms } = manifest;
  const tee = manifest.tee.kind === wanted.tee.kind ? manifest.tee : wanted.tee;
  const next = { ...wanted, id, created_at_ms, tee, port_map: kept, agent_port };
  return parseManifest(JSON.stringify(next), join(options.dir, MANIFEST_FILE));
}

/** Context id in the documented examples. */
const ENCLAVE_CID = 16;

/** What a new machine is. */
export function makeManifest(options: CreateOptions): CvmManifest {
  const common = {
    schema: 1,
    id: options.id ?? randomUUID(),
    name: options.name,
    app_id: options.appId,
    image: options.image,
    created_at_ms: Date.now(),
    attestation: { root_ca_tdx: options.rootCaTdx ?? null, pccs_url: options.pccsUrl ?? null },
    port_map: (options.ports ?? []).map((mapping) => ({
      address: mapping.address ?? '127.0.0.1',
      protocol: mapping.protocol ?? ('tcp' as const),
      from: mapping.host,
      to: mapping.guest,
      fixed: mapping.host !== 0,
    })),
    agent_port: { address: '127.0.0.1', from: options.agentPort ?? 0, fixed: (options.agentPort ?? 0) !== 0 },
    owner: options.owner ?? null,
    project: options.project ?? null,
  } as const;
  const simulated = {
    kind: 'simulated-tdx',
    seed_file: options.seedFile,
    machine: options.machine ?? 'machine-0',
  } as const;
  if (options.vm !== undefined)
    return {
      ...common,
      driver: 'vm',
      tee: teeOf(options, simulated),
      vm: vmSettings(canonical(options.dir), options.vm),
    };
  if (options.enclave !== undefined) {
    const { allow, allowPrivate = false, egress = [], cid = ENCLAVE_CID } = options.enclave;
    return {
      ...common,
      driver: 'enclave',
      tee: { ...simulated, kind: 'simulated-nitro' },
      enclave: { file: enclaveFileName(options.image), allow, allow_private: allowPrivate, egress, cid },
    };
  }
  return {
    ...common,
    driver: 'process',
    tee: simulated,
    runner: {
      engine: options.engine ?? 'auto',
      env: { ...options.env },
      engine_env: { ...options.engineEnv },
      images_disk: null,
    },
  };
}

/** The manifest of a machine that has a disk with container images, by its name in the machine's folder. */
export function withImages(manifest: CvmManifest, dir: string, name: string | null): CvmManifest {
  if (name === null || manifest.driver === 'enclave') return manifest;
  return manifest.driver === 'vm'
    ? { ...manifest, vm: { ...manifest.vm, images_disk: join(canonical(dir), name) } }
    : { ...manifest, runner: { ...manifest.runner, images_disk: name } };
}

/** Port at which a host's quote generation service listens unless it was told otherwise. */
const QGS_PORT = 4050;

function teeOf({ tee, qgsPort }: CreateOptions, simulated: ProcessManifest['tee']): VmManifest['tee'] {
  if (tee === 'tdx') return { kind: 'tdx', qgs_port: qgsPort ?? QGS_PORT };
  return tee === 'none' ? { kind: 'none' } : simulated;
}
