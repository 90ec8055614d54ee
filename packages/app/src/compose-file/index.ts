export { type ChangedScalar, changedScalars } from './changed-scalars.ts';
export { type ComposeFile, type ComposeSection, readComposeFile, sectionOf } from './compose-file.ts';
export {
  type ComposeEntry,
  type ComposeList,
  type ComposeMap,
  type ComposeNode,
  type ComposeScalar,
  listNode,
  mapNode,
  memberOf,
  textNode,
} from './compose-node.ts';
export { type ComposeSource, quoted } from './compose-source.ts';
export { ComposeValues, type ValueScope } from './compose-values.ts';
export { type ContainerPlan, type ContainerPlanOptions, planContainers } from './container-plan.ts';
export type { PortMapping } from './container-ports.ts';
export { explainStayingFiles, isOfTheMachine } from './files-that-stay.ts';
export { ENGINE_SOCKET, type ProcessPlan, type ProcessService, planProcesses } from './process-plan.ts';
export type { RestartPolicy } from './restart-policy.ts';
export type { Dependency } from './service-dependencies.ts';
export { envFiles, isSealedEnv } from './service-environment.ts';
export { contentOf, type FileContent, type FileUse } from './service-files.ts';
export { type PortUse, servicePorts } from './service-ports.ts';
export { isExternal, readVolume, serviceVolumes, type VolumeUse } from './service-volumes.ts';
