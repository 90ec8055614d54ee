import { zeroAddress } from 'viem';
import type { AppModel, KmsModel, Ruled, SafeModel, TimelockModel } from './model.ts';

const ruled = (): Ruled => ({
  owner: zeroAddress,
  pendingOwner: zeroAddress,
  implementation: zeroAddress,
  policyDelay: 0,
  announced: new Map(),
  guardians: new Set(),
});

export const emptyKms = (): KmsModel => ({
  ...ruled(),
  appImplementation: zeroAddress,
  gatewayAppId: '',
  rootKey: '',
  paused: false,
  images: new Map(),
  measurements: new Map(),
  devices: new Map(),
  deniedAdvisories: new Map(),
});

export const emptyApp = (): AppModel => ({
  ...ruled(),
  registered: false,
  fromFactory: false,
  blocked: false,
  notAfter: 0,
  allowAnyDevice: false,
  requireTcb: false,
  upgradesDisabled: false,
  composeHashes: new Map(),
  devices: new Map(),
});

export const emptyTimelock = (): TimelockModel => ({ minDelay: 0, roles: new Map(), operations: new Map() });

export const emptySafe = (): SafeModel => ({
  owners: new Set(),
  threshold: 0,
  modules: new Set(),
  guard: zeroAddress,
  executed: 0,
  lastSeen: new Map(),
  approvals: new Map(),
});
