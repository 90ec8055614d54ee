/** Operator tasks on the contracts, for the command lines. */
export { explainFailure, explainRevert, isRevert } from './explain-revert.ts';
export { runTask, type TaskSurroundings, taskHelp, taskJson, tasks } from './run-task.ts';
export type { TaskTerminal } from './terminal.ts';
