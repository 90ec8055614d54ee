export { casesOf, readCommand, type Suite } from './options.ts';
export { type CaseResult, isConforming, type Outcome } from './run-cases.ts';
