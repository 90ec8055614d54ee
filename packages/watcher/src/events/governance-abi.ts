/** Events of Timelock and Safe beside those that governance acts on. */
import { type ParseAbi, parseAbi } from 'viem';

const timelock = [
  'event RoleAdminChanged(bytes32 indexed role, bytes32 indexed previousAdminRole, bytes32 indexed newAdminRole)',
] as const;

const safe = [
  'event ChangedFallbackHandler(address indexed handler)',
  'event SignMsg(bytes32 indexed msgHash)',
  'event ExecutionFromModuleSuccess(address indexed module)',
  'event ExecutionFromModuleFailure(address indexed module)',
  'event SafeMultiSigTransaction(address to, uint256 value, bytes data, uint8 operation, uint256 safeTxGas, uint256 baseGas, uint256 gasPrice, address gasToken, address refundReceiver, bytes signatures, bytes additionalInfo)',
  'event SafeModuleTransaction(address module, address to, uint256 value, bytes data, uint8 operation)',
  'event SafeReceived(address indexed sender, uint256 value)',
] as const;

/** Before 1.4 the Safe did not index these. */
const safe13 = [
  'event AddedOwner(address owner)',
  'event RemovedOwner(address owner)',
  'event EnabledModule(address module)',
  'event DisabledModule(address module)',
  'event ChangedGuard(address guard)',
  'event ChangedFallbackHandler(address handler)',
  'event ExecutionSuccess(bytes32 txHash, uint256 payment)',
  'event ExecutionFailure(bytes32 txHash, uint256 payment)',
] as const;

export const moreTimelockEvents: ParseAbi<typeof timelock> = parseAbi(timelock);
export const moreSafeEvents: ParseAbi<typeof safe> = parseAbi(safe);
export const safe13Events: ParseAbi<typeof safe13> = parseAbi(safe13);
