import { VERSION } from '../version.ts';
import {
  ENCLAVE_DOCKERFILE,
  ENCLAVE_ENTRYPOINT,
  ENCLAVE_MAIN,
  ROOT_CA_PLACEHOLDER,
} from './enclave-files.ts';
import { type KmsTemplate, kmsCompose } from './kms-compose.ts';
import { LOCAL_COMPOSE } from './local-compose.ts';
import { VM_IMAGE, vmCompose } from './vm-compose.ts';

export interface TemplateOptions {
  readonly name: string;
  readonly platform: 'local' | 'gcp' | 'nitro';
  readonly osImage: string | undefined;
  readonly appId: string;
  readonly seed: string;
  readonly keyProvider: string;
  readonly gateway: boolean;
  readonly storageFs: string;
  readonly secureTime: boolean;
  readonly noInstanceId: boolean;
  readonly instanceName: string;
  readonly project: string;
  readonly zone: string;
  readonly region: string;
  readonly machineType: string | undefined;
  readonly dataSize: number;
  /** Platform local: a virtual machine. */
  readonly vm?: { readonly image: string | undefined } | undefined;
  /** Platform local: app.json says that it is none, whatever the configuration says. */
  readonly isProcess?: boolean;
  /** The project is a key service. */
  readonly kms?: KmsTemplate | undefined;
}

export interface ProjectFile {
  readonly name: string;
  readonly text: string;
  readonly mode: number;
}

const COMPOSE = `services:
  nginx:
    image: nginx:alpine
    ports:
      - "80:80"
    restart: unless-stopped
`;
const PRELAUNCH = `#!/bin/sh
# Runs inside the machine before the containers start. It is measured and public: no secrets here.
`;
/** Secrets, and what a deploy writes. */
const GIT_IGNORE = `.env
.dstack/
shared/
`;
const ENV = `# NAME=value, as Docker Compose reads it; sealed to the app's key at deploy
`;

/** The files of a new project. */
export function projectFiles(options: TemplateOptions): ProjectFile[] {
  if (options.platform === 'nitro') return enclaveFiles(options);
  const compose = composeFile(options);
  const files: ProjectFile[] = [
    { name: 'app.json', text: `${JSON.stringify(appJson(options), null, 2)}\n`, mode: 0o644 },
    { name: 'docker-compose.yaml', text: compose, mode: 0o644 },
    { name: 'prelaunch.sh', text: PRELAUNCH, mode: 0o755 },
    { name: '.user-config', text: '{}', mode: 0o644 },
  ];
  if (options.keyProvider === 'kms') files.push({ name: '.env', text: ENV, mode: 0o600 });
  files.push({ name: '.gitignore', text: GIT_IGNORE, mode: 0o644 });
  return files;
}

function composeFile({ kms, vm, platform }: TemplateOptions): string {
  if (kms !== undefined) return kmsCompose(kms);
  if (vm !== undefined) return vmCompose(vm.image ?? VM_IMAGE);
  return platform === 'local' ? LOCAL_COMPOSE : COMPOSE;
}

function enclaveFiles(options: TemplateOptions): ProjectFile[] {
  const app = {
    name: options.name,
    platform: 'nitro',
    app_id: options.appId,
    instance_id_seed: options.seed,
    key_provider: options.keyProvider,
    nitro_config: {
      host: 'aws',
      region: options.region,
      instance_name: options.instanceName,
      instance_type: options.machineType ?? 'c5.xlarge',
      dockerfile: 'Dockerfile',
      cpu_count: 2,
      memory_mib: 2048,
      kms_url: '',
      root_ca: 'app/root_ca.pem',
      allow: [],
      vsock: [],
    },
  };
  return [
    { name: 'app.json', text: `${JSON.stringify(app, null, 2)}\n`, mode: 0o644 },
    { name: 'Dockerfile', text: ENCLAVE_DOCKERFILE, mode: 0o644 },
    { name: 'app/entrypoint.sh', text: ENCLAVE_ENTRYPOINT, mode: 0o755 },
    { name: 'app/main.mjs', text: ENCLAVE_MAIN, mode: 0o644 },
    { name: 'app/root_ca.pem', text: ROOT_CA_PLACEHOLDER, mode: 0o644 },
  ];
}

function appJson(options: TemplateOptions): object {
  const simulated = options.platform === 'local';
  return {
    name: options.name,
    platform: options.platform,
    os_image: options.osImage ?? usualImage(options),
    ...platformConfig(options),
    docker_compose_file: 'docker-compose.yaml',
    prelaunch_script: 'prelaunch.sh',
    ...(options.keyProvider === 'kms' ? { env_file: '.env' } : {}),
    instance_id_seed: options.seed,
    app_id: options.appId,
    gateway_enabled: simulated ? false : options.gateway,
    public_logs: true,
    public_sysinfo: true,
    public_tcbinfo: true,
    key_provider: options.keyProvider,
    key_provider_id: '',
    storage_fs: options.storageFs,
    no_instance_id: options.noInstanceId,
    secure_time: options.secureTime,
    allowed_envs: [],
  };
}

function usualImage({ platform, vm }: TemplateOptions): string {
  if (vm !== undefined) return `dstack-cloud-dev-${VERSION}`;
  return platform === 'local' ? 'dstack-sim-0.6.0' : 'dstack-cloud-0.6.0';
}

function platformConfig(options: TemplateOptions): object {
  const ports = { port: 0, container_port: 8080, agent_port: 0 };
  if (options.vm !== undefined)
    return {
      local_config: {
        driver: 'vm',
        instance_name: options.instanceName,
        cpus: 2,
        memory: 2048,
        data_size: options.dataSize,
        ...ports,
        images: [],
      },
    };
  if (options.platform === 'local')
    return {
      local_config: {
        ...(options.isProcess === true ? { driver: 'process' } : {}),
        instance_name: options.instanceName,
        ...ports,
      },
    };
  return {
    gcp_config: {
      project: options.project,
      zone: options.zone,
      instance_name: options.instanceName,
      machine_type: options.machineType ?? 'c3-standard-4',
      boot_image: '',
      data_image: 'dstack-data-disk',
      data_size: options.dataSize,
      bucket: '',
    },
  };
}
