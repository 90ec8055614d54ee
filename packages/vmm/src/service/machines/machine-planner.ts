import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import {
  asAppId,
  composeHash,
  defaultAppId,
  serializeInstanceInfo,
  serializeSysConfig,
} from '@dstack-cloud/app';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import type { vmm } from '@dstack-cloud/prpc';
import { checkCvm } from '../../change/create-cvm.ts';
import type { CreateOptions } from '../../change/create-options.ts';
import { VmmError } from '../../errors.ts';
import type { HostShared } from '../../folder/shared-update.ts';
import type { VmManifest } from '../../manifest/manifest.ts';
import { bootFor } from '../../vm/boot-for.ts';
import { requireProd } from '../../vm/check-vm.ts';
import type { HostHardware } from '../../vm/devices/host-hardware.ts';
import type { VmmConfig } from '../config/vmm-config.ts';
import type { Images } from '../images.ts';
import { freeCid } from '../pools/cid-pool.ts';
import { checkPorts, type MappedPort } from '../pools/port-rules.ts';
import { checkApp } from './check-app.ts';
import { type Configuration, checkConfiguration, normalAppId, wantedNetworks } from './configuration.ts';
import { requireUnclaimed, roundedSize, wantedGpus } from './gpus.ts';
import { type Machine, requireReadable } from './machine.ts';
import { requireResources } from './resources.ts';
import { teeOf } from './tee.ts';

/**
 * How a machine of the service is to be made or changed: checks what was asked for against the configuration, the image, the
 * application and the other machines, and writes nothing.
 */
export class MachinePlanner {
  readonly #config: VmmConfig;
  readonly #images: Images;
  readonly #hardware: HostHardware;

  constructor(config: VmmConfig, images: Images, hardware: HostHardware) {
    this.#config = config;
    this.#images = images;
    this.#hardware = hardware;
  }

  /** What a caller asked for, with what the configuration adds. @throws VmmError `bad_option` */
  async requested(request: vmm.VmConfiguration): Promise<Configuration> {
    const networks = [...request.networks, ...(request.networking === undefined ? [] : [request.networking])];
    const { name, image, composeFile, vcpu, memory, diskSize, ports, encryptedEnv, userConfig } = request;
    const { sealApproval, kmsUrls, gatewayUrls, noTee, hugepages, pinNuma } = request;
    const byHash = toHex(defaultAppId(composeHash(utf8(composeFile))));
    return {
      ...{ name, image, composeFile, vcpu, memory, diskSize, ports, encryptedEnv, userConfig },
      ...{ sealApproval, kmsUrls, gatewayUrls, noTee, hugepages, pinNuma },
      gpus: await wantedGpus(request.gpus, this.#config.cvm.gpu, this.#hardware),
      appId: request.appId ? normalAppId(request.appId) : byHash,
      networks: wantedNetworks(networks, this.#config.cvm),
    };
  }

  /** How the driver is to make a new machine. @throws VmmError when anything of it cannot be */
  async newMachine(id: string, wanted: Configuration, machines: readonly Machine[]): Promise<CreateOptions> {
    // First: below it is written in hex.
    checkConfiguration(wanted, this.#config);
    const info = serializeInstanceInfo({
      instanceIdSeed: new Uint8Array(randomBytes(20)),
      instanceId: undefined,
      appId: asAppId(fromHex(wanted.appId)),
    });
    const { cid_start: start, cid_pool_size: size } = this.#config.cvm;
    const cid = freeCid({ start, size }, cidsOf(machines));
    return await this.options({ id, wanted, machines, cid, instanceInfo: utf8(info) });
  }

  /** Checks everything, and says how the driver is to make the machine. */
  async options(plan: {
    readonly id: string;
    readonly wanted: Configuration;
    /** The others. */
    readonly machines: readonly Machine[];
    readonly cid: number;
    readonly instanceInfo: Uint8Array | undefined;
  }): Promise<CreateOptions> {
    const { id, wanted, machines, cid, instanceInfo } = plan;
    const { cvm, run_path } = this.#config;
    checkConfiguration(wanted, this.#config);
    const ports = this.checkPorts(id, wanted, machines);
    const image = await this.#images.find(wanted.image);
    const tee = teeOf(wanted.noTee, cvm);
    if (tee === 'tdx' && !cvm.allow_dev_image) requireProd(image);
    const compose = checkApp(wanted.composeFile, wanted.userConfig, wanted.encryptedEnv, {
      version: image.version,
      commandLine: image.commandLine,
      hasTee: tee !== 'none',
      gpus: wanted.gpus?.gpus.length ?? 0,
    });
    if (wanted.encryptedEnv.length > 0 && compose.keyProvider === 'none')
      throw new VmmError(
        'bad_option',
        'encrypted_env cannot be opened: the application has no key provider',
        {
          expected: 'key_provider kms, or no environment',
          found: 'key_provider none',
        },
      );
    const kmsUrls = wanted.kmsUrls.length > 0 ? wanted.kmsUrls : cvm.kms_urls;
    if (compose.keyProvider === 'kms' && kmsUrls.length === 0)
      throw new VmmError(
        'bad_option',
        'The application gets its keys from a KMS, and no kms_urls are given',
        {
          expected: 'kms_urls of the machine, or cvm.kms_urls',
          found: 'none',
        },
      );
    const options: CreateOptions = {
      id,
      dir: join(run_path, id),
      name: wanted.name,
      appId: wanted.appId,
      image: wanted.image,
      shared: sharedFiles(wanted, kmsUrls, instanceInfo, this.#config),
      seedFile: cvm.simulated_tee_seed || join(run_path, '.tee-seed'),
      tee,
      qgsPort: cvm.qgs_port,
      pccsUrl: cvm.pccs_url || null,
      ports: ports.map(({ protocol, address, from, to }) => ({ protocol, address, host: from, guest: to })),
      vm: {
        image_folder: image.folder,
        ...(await roundedSize(wanted, this.#hardware)),
        hugepages: wanted.hugepages,
        pin_numa: wanted.pinNuma,
        gpus: wanted.gpus,
        disk_size: wanted.diskSize,
        networks: wanted.networks,
        tpm: cvm.tpm,
        ...bootFor(compose.keyProvider),
        acceleration: cvm.acceleration,
        cid,
        docker_registry: cvm.docker_registry || null,
        kms_urls: wanted.kmsUrls,
        gateway_urls: wanted.gatewayUrls,
        ...(cvm.qemu_path === '' ? {} : { qemu: cvm.qemu_path }),
        boot_timeout: cvm.boot_timeout,
        allow_dev_image: cvm.allow_dev_image,
        restart: cvm.auto_restart.enabled,
      },
    };
    await checkCvm(options);
    return options;
  }

  /** Whether the machines that run leave this one what it needs. @throws VmmError `no_resources` */
  requireRoom(vm: CreateOptions['vm'], others: readonly Machine[]): void {
    const { vcpu = 0, memory = 0, gpus = null } = vm ?? {};
    requireReadable(others);
    requireResources({ vcpu, memory }, others, this.#config.cvm);
    requireUnclaimed(gpus, others);
  }

  /** Refuses a start beside a machine with the same context id: its manifest was repaired, or comes from elsewhere. */
  checkCid({ vm: { cid } }: VmManifest, others: readonly Machine[]): void {
    const other = others.find(({ holdsHost, manifest }) => holdsHost && manifest?.vm.cid === cid);
    if (other === undefined) return;
    throw new VmmError(
      'no_resources',
      `${other.status.name} runs with context id ${cid} too: stop it first`,
      {
        expected: 'a context id of no other machine that runs',
        found: `${cid} of VM ${other.id}`,
      },
    );
  }

  /** The ports of a machine, which no other has. @throws VmmError `bad_option`, `port_in_use` */
  checkPorts(id: string, { ports }: Configuration, machines: readonly Machine[]): MappedPort[] {
    const others = machines.filter((other) => other.id !== id).flatMap(portsOf);
    return checkPorts(ports, this.#config.cvm.port_mapping, others);
  }
}

/** Ids that machines have; one whose manifest cannot be read may have any, and is refused at its start. */
function cidsOf(machines: readonly Machine[]): Set<number> {
  return new Set(machines.flatMap(({ manifest }) => (manifest === undefined ? [] : [manifest.vm.cid])));
}

function portsOf({ manifest }: Machine): (MappedPort & { machine: string })[] {
  if (manifest === undefined) return [];
  return manifest.port_map.map((port) => ({ ...port, machine: manifest.name }));
}

function sharedFiles(
  wanted: Configuration,
  kmsUrls: readonly string[],
  instanceInfo: Uint8Array | undefined,
  { cvm }: VmmConfig,
): HostShared {
  return {
    'app-compose.json': utf8(wanted.composeFile),
    '.sys-config.json': serializeSysConfig({
      kmsUrls,
      gatewayUrls: wanted.gatewayUrls.length > 0 ? wanted.gatewayUrls : cvm.gateway_urls,
      pccsUrl: cvm.pccs_url || undefined,
      dockerRegistry: cvm.docker_registry || undefined,
      // The driver fills in what only it knows.
      hostApiUrl: undefined,
      vmConfig: '{}',
    }),
    ...(instanceInfo === undefined ? {} : { '.instance_info': instanceInfo }),
    ...(wanted.encryptedEnv.length === 0 ? {} : { '.encrypted-env': wanted.encryptedEnv }),
    ...(wanted.userConfig === '' ? {} : { '.user-config': utf8(wanted.userConfig) }),
    ...(wanted.sealApproval === '' ? {} : { '.seal-approval.json': utf8(wanted.sealApproval) }),
  };
}
