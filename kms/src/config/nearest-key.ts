export { nearestName as nearestKey } from '@dstack-cloud/encoding';
