import type { ProcessIdentity } from '@dstack-cloud/files';
import type { HostShared } from '../folder/shared-update.ts';
import type { PortMapping, ProcessManifest } from '../manifest/manifest.ts';
import type { VmOptions } from '../manifest/vm-settings.ts';

/** What an enclave of this host is made from. */
interface EnclaveOptions {
  /** Path of the enclave image, which is copied. */
  readonly file: string;
  readonly allow: readonly string[];
  readonly allowPrivate?: boolean;
  readonly egress?: readonly { readonly vsock_port: number; readonly target: string }[];
  readonly cid?: number;
}

export interface CreateOptions {
  /** Folder that will hold the machine; its parent is made when missing. */
  readonly dir: string;
  /** UUID of a new machine; a random one when absent. */
  readonly id?: string;
  readonly name: string;
  readonly appId: string;
  /** Name of the OS image; without a virtual machine it decides the simulated MRTD and RTMR0 to 2. */
  readonly image: string;
  /** Makes it a virtual machine; without, the guest's programs are processes of this host. */
  readonly vm?: VmOptions;
  /** Makes it an enclave of this host; `image` is then its OS image hash. */
  readonly enclave?: EnclaveOptions;
  /** Of a virtual machine; the simulated TDX by default. */
  readonly tee?: 'simulated-tdx' | 'tdx' | 'none';
  /** Port of the host's quote generation service on its vsock, for a real TD. */
  readonly qgsPort?: number;
  readonly shared: HostShared;
  /** Archives and OCI image layouts that the machine loads into its engine; they were checked. */
  readonly images?: readonly string[];
  /** 32-byte seed of the simulated hardware; made when missing. */
  readonly seedFile: string;
  readonly machine?: string;
  /** PEM or DER of the root that the guest trusts for TDX quotes; null for Intel's. */
  readonly rootCaTdx?: string | null;
  readonly pccsUrl?: string | null;
  /** Host port 0 means any free one. */
  readonly ports?: readonly {
    host: number;
    guest: number;
    address?: string;
    protocol?: PortMapping['protocol'];
  }[];
  readonly agentPort?: number;
  readonly engine?: ProcessManifest['runner']['engine'];
  readonly env?: Readonly<Record<string, string>>;
  /** Which daemon of the engine: DOCKER_HOST and the like. */
  readonly engineEnv?: Readonly<Record<string, string>>;
  readonly owner?: ProcessIdentity | null;
  readonly project?: string | null;
}
