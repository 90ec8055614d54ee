import type { GlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import type { Project } from '../project/app-config.ts';
import type { Prepared } from '../project/shared-files.ts';
import type { ProjectState } from '../project/state-file.ts';
import type { Port } from './cloud/port.ts';

/** A command's surroundings on a platform. */
export interface Place {
  readonly context: Context;
  readonly config: GlobalConfig;
  readonly project: Project;
}

/** State of a machine as the platform reports it now. */
export interface MachineReport {
  readonly status: string;
  /** Software instead of a TEE: every output says so. */
  readonly simulated: boolean;
  readonly error: string | null;
  readonly urls: Readonly<Record<string, string>>;
  readonly instanceId: string | null;
  /** How a virtual machine of this host runs. */
  readonly hardware?:
    | {
        readonly acceleration: 'kvm' | 'tcg';
        /** Why it is not KVM. */
        readonly no_kvm: string | null;
        readonly cpu: string;
        readonly qemu_version: string;
      }
    | undefined;
  /** What runs differs from what was deployed, in sentences. */
  readonly drift?: readonly string[];
  /** Rows for people: label and value. */
  readonly rows: readonly (readonly [string, string])[];
}

export interface ListedMachine {
  readonly name: string;
  readonly status: string;
  readonly simulated: boolean;
  readonly app_id: string;
  readonly urls: Readonly<Record<string, string>>;
  readonly created_at: string;
  readonly project: string | null;
  /** Why it failed, or what of it cannot be read. */
  readonly error: string | null;
}

export interface LogRequest {
  readonly container: string | undefined;
  /** The journal of the machine; of platform `local` only. */
  readonly journal: boolean;
  readonly lines: number;
  readonly follow: boolean;
}

export interface DeployOptions {
  /** Undefined when there is no machine yet. */
  readonly before: ProjectState | undefined;
  /** Make the machine new, with the data disk of before. */
  readonly recreate: boolean;
  /** `delete` also makes the data disk new. */
  readonly data: 'keep' | 'delete';
  /** Platform gcp: upload the boot image although it is there. */
  readonly forceBootImage?: boolean;
  /** Platform gcp: false to leave when the machine is made, before it has booted. */
  readonly wait?: boolean;
}

/** What a deploy is going to do. */
export interface CheckOptions extends Partial<Pick<DeployOptions, 'recreate' | 'data' | 'forceBootImage'>> {
  /** Go on although the data disk becomes unreadable. */
  readonly force?: boolean;
}

interface RemoveOptions {
  /** Stop it first when it runs. */
  readonly force: boolean;
  /** Platform gcp: also data disk, firewall rules, boot image and bucket. */
  readonly all?: boolean;
  /** Platform gcp: leave images and disks that nothing uses. */
  readonly keepImages?: boolean;
}

export interface StopOptions {
  /** Platform nitro on AWS: stop the parent instance too. */
  readonly host?: boolean;
}

export type FirewallAction = 'allow' | 'deny';

/** A rule as it is shown. */
interface FirewallRule {
  readonly name: string;
  readonly action: FirewallAction;
  /** Such as `tcp/443`. */
  readonly ports: readonly string[];
  readonly sources: readonly string[];
}

/** What lets strangers reach a machine in a cloud. */
export interface Firewall {
  /** Name of the machine that the rules are for. */
  instance(place: Place): string;
  /** Makes the rule, or gives one that is there these sources; none are everybody. */
  set(
    place: Place,
    action: FirewallAction,
    port: Port,
    sources: readonly string[],
  ): Promise<'made' | 'changed' | 'unchanged'>;
  /** Removes what allows and what denies the port; how many rules that were. */
  remove(place: Place, port: Port): Promise<number>;
  list(place: Place): Promise<readonly FirewallRule[]>;
}

/** What a platform can do with a project's machine. */
export interface Platform {
  /**
   * Refuses what its guests would refuse, and what the machine cannot get on this host; nothing is registered, sealed,
   * written or stopped before.
   */
  check(
    place: Place,
    prepared: Prepared,
    before: ProjectState | undefined,
    options?: CheckOptions,
  ): Promise<void>;
  /** What a deploy would change outside of this host; nothing is changed for it. */
  plan?(place: Place, prepared: Prepared, options: CheckOptions): Promise<readonly PlannedChange[]>;
  /** Makes or updates the machine and starts it. Throws `boot_failed` with the guest's reason. */
  deploy(place: Place, prepared: Prepared, options: DeployOptions): Promise<ProjectState>;
  /** A sentence about each URL of a new deployment that does not answer within a bounded time. */
  silentUrls(place: Place, prepared: Prepared, state: ProjectState): Promise<readonly string[]>;
  /** The machine that says of itself that it belongs to this project, when nothing else does. */
  find(place: Place): Promise<ProjectState | undefined>;
  report(place: Place, state: ProjectState): Promise<MachineReport>;
  logs(place: Place, state: ProjectState, request: LogRequest): Promise<void>;
  stop(place: Place, state: ProjectState, options?: StopOptions): Promise<boolean>;
  start(place: Place, state: ProjectState): Promise<MachineReport>;
  remove(place: Place, state: ProjectState, options: RemoveOptions): Promise<void>;
  /** @param project of the cloud, where the platform has several */
  list(context: Context, config: GlobalConfig, project?: string): Promise<ListedMachine[]>;
  /** Undefined where nothing stands before the machine that this program could change. */
  readonly firewall?: Firewall;
}

/** One resource that a deploy would touch. */
export interface PlannedChange {
  readonly action: 'make' | 'change' | 'delete' | 'keep';
  readonly what: string;
  readonly note?: string;
}
