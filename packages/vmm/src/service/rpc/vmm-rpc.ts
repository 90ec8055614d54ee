import { composeHash, defaultAppId, parseAppCompose } from '@dstack-cloud/app';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import {
  createPrpcClient,
  httpTransport,
  implement,
  KMS,
  RpcError,
  type ServiceImplementation,
  Vmm,
  type vmm,
} from '@dstack-cloud/prpc';
import { VmmError } from '../../errors.ts';
import type { VmmConfig } from '../config/vmm-config.ts';
import type { Images } from '../images.ts';
import { livingSupervisor, type Machine } from '../machines/machine.ts';
import type { Machines } from '../machines/machines.ts';
import { vmInfo } from '../machines/vm-info.ts';
import type { RegistryImages } from '../registry/registry-images.ts';
import { VERSION } from '../version.ts';

const MAX_PAGE = 1000;
const MAX_REASON = 512;
const KMS_TIMEOUT_MS = 10_000;

export interface VmmService {
  readonly config: VmmConfig;
  readonly machines: Machines;
  readonly images: Images;
  readonly registry: RegistryImages;
}

/** Service `vmm.Vmm`. */
export function vmmRpc(service: VmmService): ServiceImplementation<unknown> {
  const { config, machines, images, registry } = service;
  const update = async (request: vmm.UpdateVmRequest): Promise<{ id: string }> => {
    await machines.update(request.id, request);
    return { id: request.composeFile === '' ? '' : appIdOf(request.composeFile) };
  };
  return implement(Vmm)<unknown>({
    CreateVm: async (request) => ({ id: await machines.create(request) }),
    StartVm: ({ id }) => machines.start(id),
    StopVm: ({ id }) => machines.stop(id),
    ShutdownVm: ({ id }) => machines.shutdown(id),
    RemoveVm: ({ id }) => machines.remove(id),
    UpdateVm: update,
    UpgradeApp: update,
    ResizeVm: ({ id, vcpu, memory, diskSize, image }) =>
      machines.update(id, {
        ...NO_CHANGE,
        ...(vcpu === undefined ? {} : { vcpu }),
        ...(memory === undefined ? {} : { memory }),
        ...(diskSize === undefined ? {} : { diskSize }),
        ...(image === undefined ? {} : { image }),
      }),
    GetComposeHash: ({ composeFile }) => {
      parseCompose(composeFile);
      return { hash: toHex(composeHash(utf8(composeFile))) };
    },
    Status: async (request) => {
      const found = (await machines.list()).filter((machine) => isWanted(machine, request));
      const { page, pageSize, brief: isBrief } = request;
      const size = Math.min(pageSize || MAX_PAGE, MAX_PAGE);
      const shown = page === 0 ? found : found.slice((page - 1) * size, page * size);
      const versions = await imageVersions(images);
      return {
        vms: await Promise.all(shown.map((machine) => infoOf(machine, config, versions, isBrief))),
        portMappingEnabled: config.cvm.port_mapping.enabled,
        total: found.length,
      };
    },
    GetInfo: async ({ id }) => {
      try {
        const machine = await machines.find(id);
        return { found: true, info: await infoOf(machine, config, await imageVersions(images), false) };
      } catch (error) {
        if (error instanceof VmmError && error.code === 'not_found') return { found: false };
        throw error;
      }
    },
    ListImages: async () => ({ images: await images.list() }),
    GetAppEnvEncryptPubKey: async ({ appId }) => await envKey(config, appId),
    Version: () => ({ version: VERSION, rev: '' }),
    GetMeta: () => metaOf(config),
    ListGpus: async () => {
      const { enabled, allow_attach_all } = config.cvm.gpu;
      return { gpus: await machines.gpus(), allowAttachAll: enabled && allow_attach_all };
    },
    ReloadVms: () => machines.reload(),
    SvList: async () => ({ processes: (await machines.list()).map(supervisorInfo) }),
    SvStop: ({ id }) => machines.stop(id),
    SvRemove: async ({ id }) => {
      const { status, isAlive } = await machines.find(id);
      // One that has ended is not kept, so there is nothing to forget; the machine itself is removed by RemoveVm.
      if (isAlive) throw new VmmError('running', `${status.name} is running: stop it first`);
    },
    ListRegistryImages: async () => ({ images: await registry.list() }),
    PullRegistryImage: ({ tag }) => registry.pull(tag),
    DeleteImage: ({ id }) => machines.removeImage(id),
  });
}

/** The supervisor of a machine, as a list of processes has it. */
function supervisorInfo({ id, status, isAlive }: Machine): object {
  const { state, name, dir } = status;
  const failed = state.error === null ? 'stopped' : `error(${state.error.slice(0, MAX_REASON)})`;
  const pid = livingSupervisor(status)?.pid;
  return {
    ...{ id, name, status: isAlive ? 'running' : failed, command: `dstack-vmm supervise ${dir}` },
    ...(pid === undefined ? {} : { pid }),
    note: JSON.stringify({ kind: 'cvm' }),
  };
}

const NO_CHANGE = {
  composeFile: '',
  encryptedEnv: new Uint8Array(),
  userConfig: '',
  sealApproval: '',
  updatePorts: false,
  ports: [],
  updateKmsUrls: false,
  kmsUrls: [],
  updateGatewayUrls: false,
  gatewayUrls: [],
  updateNetworking: false,
  networks: [],
};

function appIdOf(composeFile: string): string {
  return toHex(defaultAppId(composeHash(utf8(composeFile))));
}

function parseCompose(composeFile: string): void {
  try {
    parseAppCompose(composeFile);
  } catch (error) {
    throw new RpcError((error as Error).message, { code: 'INVALID_ARGUMENT', cause: error });
  }
}

function isWanted({ id, status, manifest }: Machine, { ids, keyword }: vmm.StatusRequest): boolean {
  if (ids.length > 0 && !ids.includes(id)) return false;
  if (keyword === '') return true;
  const wanted = keyword.toLowerCase();
  const texts = [id, status.name, manifest?.app_id, manifest?.image, status.state.instance_id];
  return texts.some((text) => text?.toLowerCase().includes(wanted));
}

async function imageVersions(images: Images): Promise<ReadonlyMap<string, string>> {
  return new Map((await images.list()).map(({ name, version }) => [name, version]));
}

async function infoOf(
  machine: Machine,
  config: VmmConfig,
  versions: ReadonlyMap<string, string>,
  isBrief: boolean,
): ReturnType<typeof vmInfo> {
  const imageVersion = versions.get(machine.manifest?.image ?? '') ?? '';
  return await vmInfo(machine, config, { isBrief, imageVersion });
}

/** The key to which an application's environment is sealed, and the signature by which the caller checks it. */
async function envKey(
  { kms_url }: VmmConfig,
  appId: Uint8Array,
): Promise<{ publicKey: Uint8Array; signature: Uint8Array; timestamp: bigint; signatureV1: Uint8Array }> {
  if (kms_url === '')
    throw new RpcError('This VMM knows no KMS: set kms_url in its configuration', { code: 'UNAVAILABLE' });
  const transport = httpTransport({
    baseUrl: `${kms_url.replace(/\/+$/, '')}/prpc`,
    // The signature in the answer is what the caller checks; the CA of a KMS is its own.
    tls: { rejectUnauthorized: false },
    timeoutMs: KMS_TIMEOUT_MS,
  });
  try {
    const answer = await createPrpcClient(KMS, transport).getAppEnvEncryptPubKey({ appId });
    const { publicKey, signature, timestamp, signatureV1 } = answer;
    return { publicKey, signature, timestamp: timestamp ?? 0n, signatureV1: signatureV1 ?? new Uint8Array() };
  } catch (error) {
    throw new RpcError(`The KMS gives no key: ${(error as Error).message}`, {
      code: 'UNAVAILABLE',
      cause: error,
    });
  } finally {
    transport.close();
  }
}

function metaOf({ cvm, gateway }: VmmConfig): object {
  const { networking } = cvm;
  return {
    kms: { url: cvm.kms_urls[0] ?? '', urls: cvm.kms_urls },
    gateway: {
      url: cvm.gateway_urls[0] ?? '',
      baseDomain: gateway.base_domain,
      port: gateway.port,
      agentPort: gateway.agent_port,
      urls: cvm.gateway_urls,
    },
    resources: {
      maxCvmNumber: Math.min(cvm.max_cvm_number, cvm.cid_pool_size - 1),
      maxAllocableVcpu: cvm.max_allocable_vcpu,
      maxAllocableMemoryInMb: cvm.max_allocable_memory_in_mb,
    },
    networking: {
      supportedModes: networking.bridge === '' ? ['user'] : ['user', 'bridge'],
      defaultMode: networking.mode,
      defaultBridge: networking.bridge,
    },
  };
}
