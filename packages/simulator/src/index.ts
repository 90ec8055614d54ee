export { type RunningSimulator, startSimulator } from './start-simulator.ts';
