export { UtilError } from './errors.ts';
export { type GetKeysOptions, getKeys } from './keys/get-keys.ts';
export { type Machine, thisMachine } from './machine.ts';
