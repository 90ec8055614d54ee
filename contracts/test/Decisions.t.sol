// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {IAppAuth} from "../contracts/IAppAuth.sol";
import {Domain} from "./Domain.sol";

/// @dev Decisions in any state, against the list of checks as the documentation has it.
contract DecisionsTest is Domain {
    struct State {
        bool paused;
        bool advisory;
        bool registered;
        bool blocked;
        uint64 appEnd;
        bool image;
        uint64 imageEnd;
        bool mr;
        bool kmsDevice;
        bool requireTcb;
        bool compose;
        uint64 composeEnd;
        bool anyDevice;
        bool device;
        bool upToDate;
    }

    function _end(uint64 random) private view returns (uint64) {
        // None, long ago, the last second, later.
        uint64 time = uint64(block.timestamp);
        return [0, 1, time - 1, time, time + 1, type(uint64).max][random % 6];
    }

    function _apply(State memory s) private returns (IAppAuth.AppBootInfo memory info) {
        s.appEnd = _end(s.appEnd);
        s.imageEnd = _end(s.imageEnd);
        s.composeEnd = _end(s.composeEnd);
        info = workload();
        if (!s.registered) {
            // Its own contract still says yes.
            bytes memory code = address(app).code;
            info.appId = address(0x404);
            vm.etch(info.appId, code);
        }
        if (!s.upToDate) info.tcbStatus = "OutOfDate";
        vm.startPrank(OWNER);
        if (s.advisory) kms.denyAdvisory("INTEL-SA-00837");
        if (s.blocked) kms.blockApp(info.appId);
        kms.setAppPolicyExpiry(info.appId, s.appEnd);
        kms.addOsImageHashUntil(IMAGE, s.imageEnd);
        if (!s.image) kms.removeOsImageHash(IMAGE);
        if (!s.mr) kms.removeKmsAggregatedMr(MR);
        if (!s.kmsDevice) kms.removeKmsDevice(DEVICE);
        if (s.paused) kms.pause();
        vm.stopPrank();
        vm.startPrank(APP_OWNER);
        app.setRequireTcbUpToDate(s.requireTcb);
        app.addComposeHashUntil(COMPOSE, s.composeEnd);
        if (!s.compose) app.removeComposeHash(COMPOSE);
        app.setAllowAnyDevice(s.anyDevice);
        if (!s.device) app.removeDevice(DEVICE);
        vm.stopPrank();
    }

    function _over(uint64 end) private view returns (bool) {
        return end != 0 && block.timestamp > end;
    }

    function _kmsDenial(State memory s) private view returns (string memory) {
        if (s.paused) return "KMS contract is paused";
        if (s.advisory) return "Advisory is denied";
        if (!s.upToDate) return "TCB status is not up to date";
        if (!s.image) return "OS image is not allowed";
        if (_over(s.imageEnd)) return "OS image authorization expired";
        if (!s.mr) return "Aggregated MR not allowed";
        if (!s.kmsDevice) return "KMS is not allowed to boot on this device";
        return "";
    }

    function _appDenial(State memory s) private view returns (string memory) {
        if (s.paused) return "KMS contract is paused";
        if (s.advisory) return "Advisory is denied";
        if (!s.registered) return "App not registered";
        if (s.blocked) return "App is blocked";
        if (_over(s.appEnd)) return "App authorization expired";
        if (!s.image) return "OS image is not allowed";
        if (_over(s.imageEnd)) return "OS image authorization expired";
        if (s.requireTcb && !s.upToDate) return "TCB status is not up to date";
        if (!s.compose) return "Compose hash not allowed";
        if (_over(s.composeEnd)) return "Compose hash expired";
        if (!s.anyDevice && !s.device) return "Device not allowed";
        return "";
    }

    /// forge-config: default.fuzz.runs = 1500
    function testFuzzDecisions(State memory s) external {
        IAppAuth.AppBootInfo memory info = _apply(s);
        expectKms(info, _kmsDenial(s));
        expectApp(info, _appDenial(s));
    }

    /// @dev Random states deny nearly always; here at most one thing is wrong.
    /// forge-config: default.fuzz.runs = 800
    function testFuzzOneFault(uint8 fault, uint64 end) external {
        State memory s = State(false, false, true, false, 0, true, 0, true, true, false, true, 0, false, true, true);
        fault %= 16;
        if (fault == 1) s.paused = true;
        if (fault == 2) s.advisory = true;
        if (fault == 3) s.registered = false;
        if (fault == 4) s.blocked = true;
        if (fault == 5) s.appEnd = end;
        if (fault == 6) s.image = false;
        if (fault == 7) s.imageEnd = end;
        if (fault == 8) s.mr = false;
        if (fault == 9) s.kmsDevice = false;
        if (fault == 10) s.requireTcb = true;
        if (fault == 11) s.compose = false;
        if (fault == 12) s.composeEnd = end;
        if (fault == 13) s.device = false;
        if (fault == 14) s.upToDate = false;
        IAppAuth.AppBootInfo memory info = _apply(s);
        expectKms(info, _kmsDenial(s));
        expectApp(info, _appDenial(s));
    }
}
