/*
 * bcryptprimitives.dll for Wine 8, which lacks it. A Go program asks it for random bytes when
 * it starts (src/runtime/os_windows.go in Go's sources); advapi32's RtlGenRandom, exported
 * under the name SystemFunction036, has had them since Windows XP.
 */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
	while (length > 0) {
		ULONG part = length > 0x10000000 ? 0x10000000 : (ULONG)length;
		if (!SystemFunction036(data, part))
			return FALSE;
		data += part;
		length -= part;
	}
	return TRUE;
}
