/** The development image of this checkout, built once for all tests that boot it. */
export { devImage } from '@dstack-cloud/scripts/demo/dev-image';
