import { AttestationError } from '../errors.ts';
import { JsonFields, parseJson } from '../json-fields.ts';
import { TCB_STATUSES, type TcbStatus } from '../tcb-status.ts';

/** One patch level with its status. */
export interface LevelStatus {
  readonly status: TcbStatus;
  readonly advisoryIds: readonly string[];
  /** Unix seconds. */
  readonly tcbDate: number;
}

/** Level of a platform. */
export interface PlatformLevel extends LevelStatus {
  /** 16 security versions. */
  readonly sgx: readonly number[];
  readonly pceSvn: number;
  /** 16 security versions; TDX only. */
  readonly tdx: readonly number[] | undefined;
}

/** Level of a TDX module or quoting enclave. */
export interface SvnLevel extends LevelStatus {
  readonly isvSvn: number;
}

export interface ModuleSigner {
  /** 48 bytes. */
  readonly mrSigner: Uint8Array;
  /** 8 bytes. */
  readonly attributes: Uint8Array;
  readonly attributesMask: Uint8Array;
}

interface ModuleIdentity extends ModuleSigner {
  /** `TDX_01` … */
  readonly id: string;
  /** Highest isvSvn first. */
  readonly levels: readonly SvnLevel[];
}

/** Intel's TCB info, version 3 (Intel PCS API v4, "Get TCB Info"). */
export interface TcbInfo {
  readonly id: 'SGX' | 'TDX';
  readonly issueDate: number;
  readonly nextUpdate: number;
  /** 6 bytes. */
  readonly fmspc: Uint8Array;
  /** 2 bytes. */
  readonly pceId: Uint8Array;
  readonly tcbEvaluationDataNumber: number;
  readonly module: ModuleSigner | undefined;
  readonly moduleIdentities: readonly ModuleIdentity[];
  /** Highest first, whatever the order they were served in. */
  readonly levels: readonly PlatformLevel[];
}

export const MAX_SIGNED_JSON: number = 2 << 20;
const MAX_LEVELS = 256;
const MAX_ADVISORIES = 256;
const COMPONENTS = 16;

/** Reads the text of a `tcbInfo` value. @throws AttestationError `malformed`, `unsupported`, `too-large` */
export function parseTcbInfo(text: string): TcbInfo {
  const info = new JsonFields(parseJson(text, 'TCB info', MAX_SIGNED_JSON), 'tcbInfo');
  const id = info.text('id');
  if (id !== 'SGX' && id !== 'TDX') {
    throw new AttestationError('unsupported', 'TCB info is neither of SGX nor of TDX', { found: id });
  }
  const version = info.integer('version');
  if (version !== 3) {
    throw new AttestationError('unsupported', 'TCB info version', { expected: '3', found: `${version}` });
  }
  // The type says how levels are compared; Intel has defined one.
  const tcbType = info.has('tcbType') ? info.integer('tcbType') : 0;
  if (tcbType !== 0) {
    throw new AttestationError('unsupported', 'TCB info of another type', {
      expected: '0',
      found: `${tcbType}`,
    });
  }
  const isTdx = id === 'TDX';
  const levels = info.objects('tcbLevels', MAX_LEVELS).map((level) => readPlatformLevel(level, isTdx));
  return {
    id,
    issueDate: info.time('issueDate'),
    nextUpdate: info.time('nextUpdate'),
    fmspc: info.hex('fmspc', 6),
    pceId: info.hex('pceId', 2),
    tcbEvaluationDataNumber: info.integer('tcbEvaluationDataNumber'),
    module: isTdx ? readModule(info.object('tdxModule')) : undefined,
    moduleIdentities: isTdx ? info.objects('tdxModuleIdentities', MAX_LEVELS).map(readModuleIdentity) : [],
    levels: levels.sort(comparePlatformLevels),
  };
}

/** Descending by SGX components, PCESVN, TDX components: Intel's order (docs/protocol/verification.md section 2.3). */
function comparePlatformLevels(a: PlatformLevel, b: PlatformLevel): number {
  return (
    compareComponents(b.sgx, a.sgx) || b.pceSvn - a.pceSvn || compareComponents(b.tdx ?? [], a.tdx ?? [])
  );
}

function compareComponents(a: readonly number[], b: readonly number[]): number {
  const index = a.findIndex((svn, i) => svn !== b[i]);
  return index < 0 ? 0 : a[index]! - (b[index] ?? 0);
}

function readPlatformLevel(level: JsonFields, isTdx: boolean): PlatformLevel {
  const tcb = level.object('tcb');
  return {
    sgx: readComponents(tcb, 'sgxtcbcomponents'),
    pceSvn: tcb.integer('pcesvn', 0xffff),
    tdx: isTdx ? readComponents(tcb, 'tdxtcbcomponents') : undefined,
    ...readLevelStatus(level),
  };
}

function readComponents(tcb: JsonFields, name: string): number[] {
  const components = tcb.objects(name, COMPONENTS).map((component) => component.integer('svn', 0xff));
  if (components.length !== COMPONENTS) {
    throw new AttestationError('malformed', `A TCB level has the wrong number of ${name}`, {
      expected: `${COMPONENTS}`,
      found: `${components.length}`,
    });
  }
  return components;
}

function readModule(module: JsonFields): ModuleSigner {
  return {
    mrSigner: module.hex('mrsigner', 48),
    attributes: module.hex('attributes', 8),
    attributesMask: module.hex('attributesMask', 8),
  };
}

function readModuleIdentity(identity: JsonFields): ModuleIdentity {
  return {
    id: identity.text('id'),
    ...readModule(identity),
    levels: readSvnLevels(identity),
  };
}

/** `tcbLevels` by `isvsvn`, highest first. Also those of a QE identity. */
export function readSvnLevels(identity: JsonFields): SvnLevel[] {
  return identity
    .objects('tcbLevels', MAX_LEVELS)
    .map((level) => ({ isvSvn: level.object('tcb').integer('isvsvn', 0xffff), ...readLevelStatus(level) }))
    .sort((a, b) => b.isvSvn - a.isvSvn);
}

function readLevelStatus(level: JsonFields): LevelStatus {
  const text = level.text('tcbStatus');
  const status = TCB_STATUSES.find((known) => known === text);
  if (!status) throw new AttestationError('unsupported', `Unknown TCB status "${text}"`, { found: text });
  return {
    status,
    advisoryIds: level.texts('advisoryIDs', MAX_ADVISORIES),
    tcbDate: level.time('tcbDate'),
  };
}
