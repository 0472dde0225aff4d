/* The whole userland of a test image: prints its environment, so that a test sees what reached the container. */
#include <stdio.h>

extern char **environ;

int main(void) {
    for (char **entry = environ; *entry; entry++) puts(*entry);
    return 0;
}
