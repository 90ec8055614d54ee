import type { ComposeFile } from '@dstack-cloud/app/compose-file';
import type { ProcessFolders } from './place-service.ts';

/** What the plain processes of an application are run with. */
export interface ProcessRunOptions {
  readonly file: ComposeFile;
  /** Decrypted environment and what pre_launch_script exported: for interpolation only, as with an engine. */
  readonly variables: Readonly<Record<string, string>>;
  /** The decrypted environment alone. */
  readonly sealedEnv: Readonly<Record<string, string>>;
  /** The machine's own environment. */
  readonly machineEnv: NodeJS.ProcessEnv;
  /** Non-secret variables for the services, from the guest configuration. */
  readonly extraEnv: Readonly<Record<string, string>>;
  readonly folders: ProcessFolders;
  readonly logDir: string;
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}
